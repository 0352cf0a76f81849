/**
 * Runs the named checks (`npm run check:NAME`) side by side and prints the output of those that fail. With two cores
 * the short ones hide behind the tests.
 */
import { spawn } from "node:child_process";

interface Outcome {
  readonly name: string;
  readonly ok: boolean;
  readonly output: string;
  readonly seconds: number;
}

function run(name: string): Promise<Outcome> {
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn("npm", ["run", "--silent", `check:${name}`], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const keep = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("close", (code) =>
      resolve({ name, ok: code === 0, output, seconds: (performance.now() - started) / 1000 }),
    );
  });
}

const outcomes = await Promise.all(
  process.argv.slice(2).map(async (name) => {
    const outcome = await run(name);
    console.log(`${outcome.ok ? "ok    " : "FAILED"} ${outcome.name} (${outcome.seconds.toFixed(1)} s)`);
    return outcome;
  }),
);
for (const { name, ok, output } of outcomes) if (!ok) console.log(`\n── ${name} ──\n${output}`);
process.exitCode = outcomes.every((outcome) => outcome.ok) ? 0 : 1;
