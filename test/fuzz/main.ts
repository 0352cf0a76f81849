/**
 * Fuzzes by hand: `node --import ./test/fuzz/coverage.ts test/fuzz/main.ts [NAME…]`, all targets without a name.
 * `FUZZ_RUNS` is the number of inputs per target, `FUZZ_SECONDS` its time, `FUZZ_SEED` the seed (1); `FUZZ_KEEP=1` adds
 * what was found to the corpus. Exit code 1 with the first target that fails, after all were run.
 */
import { describeReport, fuzz } from "./harness.ts";
import { TARGETS } from "./targets/index.ts";

const number = (name: string): number | undefined => {
  const text = process.env[name];
  return text === undefined ? undefined : Number(text);
};

const names = process.argv.slice(2);
const seconds = number("FUZZ_SECONDS");
const runs = number("FUZZ_RUNS") ?? (seconds === undefined ? 100_000 : Number.MAX_SAFE_INTEGER);
for (const target of TARGETS) {
  if (names.length > 0 && !names.includes(target.name)) continue;
  try {
    const started = performance.now();
    const report = fuzz(target, {
      runs,
      seed: number("FUZZ_SEED") ?? 1,
      keep: process.env["FUZZ_KEEP"] !== undefined,
      ...(seconds === undefined ? {} : { seconds }),
    });
    const took = (performance.now() - started) / 1000;
    console.info(`${describeReport(target.name, report)}, ${took.toFixed(0)} s`);
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}
