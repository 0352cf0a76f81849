import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { faultsOf, readTables } from "../support/tables.ts";

const ROOT = join(import.meta.dirname, "..");

/** Every file that may hold such tables, as a path from `test/`. */
const files = ["conformance", "tables"]
  .filter((folder) => existsSync(join(ROOT, folder)))
  .flatMap((folder) =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `${folder}/${name}`),
  );

describe("every rule in a table is proved by a test that exists", () => {
  test.each(files)("%s", (file) => {
    const rows = readTables(readFileSync(join(ROOT, file), "utf8"));
    if (!file.endsWith("README.md")) expect(rows.length).toBeGreaterThan(0);
    expect(rows.flatMap((row) => faultsOf(row, ROOT))).toEqual([]);
  });
});

describe("the check itself", () => {
  const folder = mkdtempSync(join(tmpdir(), "tables-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  writeFileSync(
    join(folder, "a.test.ts"),
    'describe("group", () => test("says \\"hi\\"", () => {}));\nconst cases = ["one case"];\n',
  );
  writeFileSync(join(folder, "cases.md"), "# Cases\n\nV01  R  GET /\n");

  const faults = (cell: string) =>
    readTables(`| Rule | Test |\n| --- | --- |\n| r | ${cell} |\n`).flatMap((row) => faultsOf(row, folder));

  test("takes tests, groups, cases and vectors", () => {
    expect(faults('a.test.ts › group<br>`a.test.ts › says "hi"`<br>a.test.ts › one case<br>cases.md › V01')).toEqual(
      [],
    );
  });

  test("finds what is missing", () => {
    expect(faults("")).toEqual(["line 3: no test is named for r"]);
    expect(faults("group")).toEqual(['line 3: expected "path › title", found "group"']);
    expect(faults("b.test.ts › group")).toEqual(["line 3: there is no file b.test.ts"]);
    expect(faults("a.test.ts › grou")).toEqual(['line 3: a.test.ts has no "grou"']);
    expect(faults("cases.md › V02")).toEqual(['line 3: cases.md has no "V02"']);
  });

  test("leaves other tables alone", () => {
    expect(readTables("| a | b |\n| --- | --- |\n| 1 | 2 |\n\n| a | Test |\n| - | - |\n| x \\| y | z |\n")).toEqual([
      { line: 7, rule: ["x | y"], proofs: ["z"] },
    ]);
  });
});
