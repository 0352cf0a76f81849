import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { reference } from "../../../scripts/reference.ts";

it("is what docs/reference.md says: run `npm run reference` after changing a table", () => {
  expect(readFileSync(new URL("../../../docs/reference.md", import.meta.url), "utf8")).toBe(reference());
});
