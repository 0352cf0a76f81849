/**
 * Runs checks and test suites by name and adds up what they found: `node scripts/test.ts [NAME…]` (all of them without a name).
 *
 * Checks run side by side, quietly; suites run one after the other with their output. The last line is always
 * `N passed, N failed` over everything that ran. Exit code 1 if something failed, or if nothing ran at all.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const BIN = join(ROOT, "node_modules/.bin");
// A suite that hangs must not cost the others their line.
const SUITE_LIMIT_MS = 35 * 60_000;

interface Tally {
  readonly passed: number;
  readonly failed: number;
}

/** Commands that either pass or fail; each counts as one test. */
const CHECKS: Readonly<Record<string, readonly string[]>> = {
  lint: [join(BIN, "biome"), "check", "--error-on-warnings", "."],
  types: [process.execPath, join(ROOT, "node_modules/typescript7/bin/tsc"), "-p", "tsconfig.json"],
  rings: [join(BIN, "depcruise"), "--config", ".dependency-cruiser.cjs", "src"],
};

/** Vitest projects, in the order in which they fail fastest. `root`: needs network namespaces or containers. */
const SUITES: readonly { readonly name: string; readonly root: boolean }[] = [
  { name: "unit", root: false },
  { name: "integration", root: true },
  { name: "conformance", root: true },
  { name: "fuzz", root: false },
  { name: "netns", root: true },
  { name: "packaging", root: true },
];

const scratch = mkdtempSync(join(tmpdir(), "mesh-agent-test-"));
let current: ChildProcess | undefined;

function stop(signal: NodeJS.Signals): void {
  if (current?.pid !== undefined) process.kill(-current.pid, signal);
}

let interrupted = false;

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    interrupted = true;
    stop(signal);
    process.exitCode = 130;
  });
}

/** Runs a command; with `quiet` its output is kept for whoever wants to see why it failed. */
function run(command: readonly string[], quiet: boolean): Promise<{ code: number; output: string; seconds: number }> {
  const started = performance.now();
  return new Promise((resolve) => {
    const [file, ...args] = command as [string, ...string[]];
    // A group of its own, so that a suite is stopped together with what it started.
    const child = spawn(file, args, {
      cwd: ROOT,
      detached: !quiet,
      stdio: ["ignore", quiet ? "pipe" : "inherit", quiet ? "pipe" : "inherit"],
      // A log is read as text.
      env: process.stdout.isTTY ? process.env : { ...process.env, NO_COLOR: "1" },
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const limit = quiet ? undefined : setTimeout(() => stop("SIGTERM"), SUITE_LIMIT_MS);
    if (!quiet) current = child;
    child.on("error", (error) => (output += error.message));
    child.on("close", (code) => {
      clearTimeout(limit);
      if (!quiet) current = undefined;
      resolve({ code: code ?? 1, output, seconds: (performance.now() - started) / 1000 });
    });
  });
}

function report(name: string, tally: Tally, seconds: number): void {
  const verdict = tally.failed > 0 ? "FAILED" : "ok";
  console.log(
    `${verdict.padEnd(6)} ${name.padEnd(12)} ${tally.passed} passed, ${tally.failed} failed, ${seconds.toFixed(1)} s`,
  );
}

async function check(name: string): Promise<Tally> {
  const { code, output, seconds } = await run(CHECKS[name] as readonly string[], true);
  const tally = { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1 };
  report(name, tally, seconds);
  if (code !== 0) console.log(output);
  return tally;
}

/** What vitest's JSON reporter writes, as far as it is read here. */
interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[];
}

async function suite(name: string, root: boolean): Promise<Tally> {
  const json = join(scratch, `${name}.json`);
  const vitest = [
    join(BIN, "vitest"),
    "run",
    "--project",
    name,
    `--reporter=${process.stdout.isTTY ? "dot" : "default"}`,
    "--reporter=json",
    `--outputFile.json=${json}`,
  ];
  const asRoot = root && process.getuid?.() !== 0 ? ["sudo", "env", `PATH=${process.env["PATH"]}`] : [];
  console.log(`\n── ${name} ──`);
  const { code, seconds } = await run([...asRoot, ...vitest], false);
  let tally: Tally = { passed: 0, failed: 1 };
  if (existsSync(json)) {
    const found = JSON.parse(readFileSync(json, "utf8")) as VitestReport;
    // A file that does not even load has no tests that could fail.
    const broken = found.testResults.filter(
      (file) => file.status === "failed" && file.assertionResults.length === 0,
    ).length;
    const failed = found.numFailedTests + broken;
    tally = { passed: found.numPassedTests, failed: failed === 0 && code !== 0 ? 1 : failed };
    if (tally.passed + tally.failed === 0) tally = { passed: 0, failed: 1 };
  }
  report(name, tally, seconds);
  return tally;
}

function hasTests({ name }: { readonly name: string }): boolean {
  if (name === "unit") return true;
  const folder = join(ROOT, "test", name);
  return existsSync(folder) && readdirSync(folder, { recursive: true }).some((file) => `${file}`.endsWith(".test.ts"));
}

const wanted = process.argv.slice(2);
const known = [...Object.keys(CHECKS), ...SUITES.map(({ name }) => name)];
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`no such check or suite: ${unknown.join(", ")}; there are: ${known.join(", ")}`);
  process.exit(2);
}
const chosen = (name: string): boolean => wanted.length === 0 || wanted.includes(name);

const tallies = await Promise.all(Object.keys(CHECKS).filter(chosen).map(check));
for (const { name, root } of SUITES.filter(hasTests))
  if (chosen(name) && !interrupted) tallies.push(await suite(name, root));

rmSync(scratch, { recursive: true, force: true });
const passed = tallies.reduce((sum, tally) => sum + tally.passed, 0);
const failed = tallies.reduce((sum, tally) => sum + tally.failed, 0);
if (failed > 0 || passed === 0) process.exitCode ||= 1;
console.log(`\n${passed} passed, ${failed} failed`);
