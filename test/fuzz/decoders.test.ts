import { expect, it } from "vitest";
import { Guide } from "./guide.ts";
import { describeReport, fuzz } from "./harness.ts";
import { TARGETS } from "./targets/index.ts";

const RUNS = Number(process.env["FUZZ_RUNS"] ?? 2_000);

// The same inputs every time; by hand with other seeds and for longer, see README.md.
it.each(TARGETS)("$name", (target) => {
  const report = fuzz(target, { runs: RUNS, guide: new Guide(target.covers) });
  expect(report.inputs).toBeGreaterThanOrEqual(RUNS);
  console.info(describeReport(target.name, report));
});
