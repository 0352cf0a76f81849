import { Option } from "commander";

export type Format = "text" | "json";

/** `-o json` beside everything that an operator reads. */
export function outputOption(): Option {
  return new Option("-o, --output <format>", "text or json").choices(["text", "json"]).default("text");
}

/** Prints a value as JSON, or as `render` puts it. */
export function print(format: Format, value: unknown, render: () => string): void {
  process.stdout.write(format === "json" ? `${JSON.stringify(value, undefined, 2)}\n` : render());
}

/** Rows as columns, two spaces apart; no trailing blanks. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** `5s`, `3m`, `2h`, `4d`: as kubectl writes ages. */
export function age(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)}h`;
  return `${Math.round(seconds / 86_400)}d`;
}
