/**
 * Fuzzes by hand: `node test/fuzz/main.ts [NAME…]`, all targets without a name. One input in five hundred is a scout's, whose
 * coverage says which are worth keeping; the others are made from those, at the speed of the proxy.
 *
 * `FUZZ_RUNS` is the number of inputs per target, `FUZZ_SECONDS` its time beside the scout's, `FUZZ_SEED` the seed (1);
 * `FUZZ_KEEP=1` adds what was found to the corpus. Exit code 1 if a target failed, after all were run.
 */
import { describeReport, fuzz } from "./harness.ts";
import { scout } from "./scout.ts";
import { TARGETS } from "./targets/index.ts";

const SCOUTED = 1 / 500;
const MIN_SCOUTED = 10_000;
const MAX_SCOUTED = 20_000;

const number = (name: string): number | undefined => {
  const text = process.env[name];
  return text === undefined ? undefined : Number(text);
};

const names = process.argv.slice(2);
const seconds = number("FUZZ_SECONDS");
const seed = number("FUZZ_SEED") ?? 1;
const runs = number("FUZZ_RUNS") ?? (seconds === undefined ? 100_000 : Number.MAX_SAFE_INTEGER);
for (const target of TARGETS) {
  if (names.length > 0 && !names.includes(target.name)) continue;
  try {
    const started = performance.now();
    const scouted = await scout({
      name: target.name,
      runs: Math.min(Math.max(MIN_SCOUTED, runs * SCOUTED), MAX_SCOUTED),
      seed,
      keep: process.env["FUZZ_KEEP"] !== undefined,
    });
    const report = fuzz(target, {
      runs: Math.max(0, runs - scouted.inputs),
      // Not the scout's: the same chance would make much the same inputs.
      seed: seed + 1,
      corpus: scouted.found,
      ...(seconds === undefined ? {} : { seconds }),
    });
    const took = (performance.now() - started) / 1000;
    const inputs = scouted.inputs + report.inputs;
    console.info(`${describeReport(target.name, { ...report, inputs })}, ${took.toFixed(0)} s`);
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}
