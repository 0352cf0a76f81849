import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Tables that map rules to the tests that prove them: Markdown tables whose last column is headed `Test`. Each cell there
 * names one or more proofs as `path › title`, separated by `<br>`; the path is relative to `test/`.
 *
 * A title is a whole string literal of that file: a test's, a group's, or a case's name in a list that tests are made
 * from. In a file of vectors it is a vector's id, the first word of a line or the first cell of a row. Tables with another last column are prose.
 */
export interface TableRow {
  /** Line in its file, from 1. */
  readonly line: number;
  /** The cells before the last one. */
  readonly rule: readonly string[];
  readonly proofs: readonly string[];
}

/** The rows of every table in `markdown` whose last column is `Test`. */
export function readTables(markdown: string): TableRow[] {
  const rows: TableRow[] = [];
  let inside = false;
  let before: string[] = [];
  for (const [index, line] of markdown.split("\n").entries()) {
    const cells = cellsOf(line);
    if (cells === undefined) inside = false;
    else if (cells.every((cell) => /^:?-+:?$/.test(cell))) inside = before.at(-1) === "Test";
    else if (inside) {
      const proofs = (cells.at(-1) as string).split(/<br ?\/?>/).map((proof) => proof.trim().replace(/^`(.*)`$/, "$1"));
      rows.push({ line: index + 1, rule: cells.slice(0, -1), proofs: proofs.filter((proof) => proof !== "") });
    }
    before = cells ?? [];
  }
  return rows;
}

function cellsOf(line: string): string[] | undefined {
  const inner = /^\|(.*)\|\s*$/.exec(line)?.[1];
  return inner?.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** What is wrong with a row; empty if every proof it names exists. @param root - The folder that paths start from. */
export function faultsOf(row: TableRow, root: string): string[] {
  if (row.proofs.length === 0) return [`line ${row.line}: no test is named for ${row.rule[0]}`];
  const faults: string[] = [];
  for (const proof of row.proofs) {
    const mark = proof.indexOf(" › ");
    const path = proof.slice(0, mark);
    const title = proof.slice(mark + 3);
    if (mark <= 0 || title === "") faults.push(`line ${row.line}: expected "path › title", found "${proof}"`);
    else if (!existsSync(join(root, path))) faults.push(`line ${row.line}: there is no file ${path}`);
    else if (!names(root, path, title)) faults.push(`line ${row.line}: ${path} has no "${title}"`);
  }
  return faults;
}

const texts = new Map<string, string>();

function names(root: string, path: string, title: string): boolean {
  const file = join(root, path);
  let text = texts.get(file);
  if (text === undefined) {
    text = readFileSync(file, "utf8");
    texts.set(file, text);
  }
  if (!path.endsWith(".ts"))
    return text.split("\n").some((line) => line.startsWith(`${title} `) || line.startsWith(`| ${title} |`));
  return ['"', "'", "`"].some((quote) =>
    (text as string).includes(`${quote}${title.replaceAll(quote, `\\${quote}`)}${quote}`),
  );
}
