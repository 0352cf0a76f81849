/** Text with a meaning that a terminal can show. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
  name(text: string): string;
}

const PLAIN: Style = {
  bold: (text) => text,
  dim: (text) => text,
  good: (text) => text,
  bad: (text) => text,
  name: (text) => text,
};

const sgr = (code: number) => (text: string) => `\x1b[${code}m${text}\x1b[0m`;

const COLOURED: Style = { bold: sgr(1), dim: sgr(2), good: sgr(32), bad: sgr(31), name: sgr(36) };

/** Colour on a terminal only, and not for those who set NO_COLOR (no-color.org: to anything but the empty text). */
export function styleFor(isTerminal: boolean, noColor: string | undefined): Style {
  return isTerminal && (noColor === undefined || noColor === "") ? COLOURED : PLAIN;
}

const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, "g");

/** How many columns a text takes on the screen. */
export function widthOf(text: string): number {
  return text.replace(ESCAPES, "").length;
}

/**
 * Rows as aligned columns, two spaces apart, indented by two.
 *
 * @param right - Columns whose text ends flush right: numbers.
 */
export function columns(rows: readonly (readonly string[])[], right: ReadonlySet<number> = new Set()): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, widthOf(cell));
  }
  const lines = rows.map((row) => {
    const cells = row.map((cell, index) => {
      const pad = " ".repeat((widths[index] ?? 0) - widthOf(cell));
      return right.has(index) ? pad + cell : cell + pad;
    });
    return `  ${cells.join("  ")}`.trimEnd();
  });
  return `${lines.join("\n")}\n`;
}
