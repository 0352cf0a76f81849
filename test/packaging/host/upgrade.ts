import { rmSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import type { LoadReport } from "../load.ts";
import { type MeshedMachine, repackage } from "../meshed-machine.ts";

// By hand: the figures of the hardening table; in every run: as much as a busy machine carries.
const SOAK = process.env["SOAK"] === "1";
const RATE = SOAK ? 500 : 100;
const STREAMS = SOAK ? 50 : 10;

function print(what: string, report: LoadReport): void {
  const at = report.failedAtMs?.map((ms) => ` ${new Date(ms).toISOString().slice(14, 23)}`).join(" to") ?? "";
  process.stdout.write(
    `${what}: ${report.sent} requests, ${report.failed} failed ${JSON.stringify(report.failures)}${at}, slowest ${report.slowestMs} ms; ` +
      `streams ${report.streams.whole} whole, cut ${JSON.stringify(report.streams.cut)}; opaque ${report.opaque.whole} whole, ${report.opaque.cut} cut\n`,
  );
}

/** P06, P08, P17: another version in the running one's place. */
export function upgrades(machine: () => MeshedMachine, deb: () => string): void {
  const files: string[] = [];
  afterAll(() => {
    for (const file of files) rmSync(file, { force: true });
  });

  /** Everything that listens for us, by inode: what a restart of the sockets would change. */
  const inodes = () =>
    machine()
      .vm.run(
        "ss",
        "--listening",
        "--tcp",
        "--extended",
        "--no-header",
        "--numeric",
        "( sport = 4143 or sport = 4140 or sport = 4191 )",
      )
      .split("\n")
      .map((line) => /ino:(\d+)/.exec(line)?.[1])
      .sort();

  const underLoad = async (change: () => void | Promise<void>) => {
    const { vm } = machine();
    const mix = { fresh: RATE, kept: RATE, calls: RATE / 10, streams: STREAMS, opaque: STREAMS };
    const loads = [await machine().load("vm", mix), await machine().load("pod", { ...mix, fresh: 0, kept: RATE / 2 })];
    await new Promise((resolve) => setTimeout(resolve, SOAK ? 20_000 : 2_000));
    const before = machine().mainPid();
    const began = performance.now();
    await change();
    const took = performance.now() - began;
    expect(machine().mainPid()).not.toBe(before);
    await vm.until("registered and Ready", () => machine().isReady(), 30_000);
    await new Promise((resolve) => setTimeout(resolve, SOAK ? 60_000 : 3_000));
    const [out, into] = await Promise.all(loads.map((load) => load.end()));
    process.stdout.write(`the change took ${took.toFixed(0)} ms\n`);
    return { before, out: out as LoadReport, into: into as LoadReport };
  };

  const expectNothingLost = ({ out, into }: { out: LoadReport; into: LoadReport }) => {
    for (const report of [out, into]) {
      expect(report.failures).toEqual({});
      expect(report.sent).toBeGreaterThan(RATE);
      expect(report.streams).toEqual({ whole: STREAMS, cut: {} });
      expect(report.opaque).toEqual({ whole: STREAMS, cut: 0 });
    }
  };

  describe("upgrade", () => {
    test.each([
      ["upgrade", "99.0.0"],
      ["downgrade", "0.0.1"],
    ])(
      "%s of the package under load loses no request and cuts no stream",
      async (what, version) => {
        const file = repackage(deb(), version);
        files.push(file);
        const before = inodes();
        const result = await underLoad(() => machine().install(file));
        print(`${what}, from here`, result.out);
        print(`${what}, to here`, result.into);
        expectNothingLost(result);
        expect(inodes()).toEqual(before);
        // The file that was replaced is not the one that runs.
        expect(machine().vm.run("readlink", `/proc/${machine().mainPid()}/exe`).trim()).toBe("/usr/bin/mesh-agent");
        await machine().vm.until("the predecessor has gone", () => !machine().runs(result.before), 20_000);
      },
      240_000,
    );

    test("a stream that outlives the drain's limit is closed then, and counted", async () => {
      const { vm } = machine();
      vm.run(
        "sh",
        "-c",
        "printf 'drain:\\n  timeout: 3s\\n' > /etc/mesh-agent/config.yaml && systemctl reload mesh-agent",
      );
      await vm.until("ready", () => machine().isReady(), 30_000);
      const load = await machine().load("vm", { streams: 1, opaque: 1 });
      const before = machine().mainPid();
      const began = performance.now();
      vm.run("systemctl", "reload", "mesh-agent");
      await vm.until("the predecessor has gone", () => !machine().runs(before), 20_000);
      process.stdout.write(`drained to its limit of 3 s in ${(performance.now() - began).toFixed(0)} ms\n`);
      expect(machine().journal()).toContain("closed what was still open at the end of the drain");
      const report = await load.end();
      print("past the limit", report);
      expect(report.opaque.cut).toBe(1);
      expect(report.streams.whole).toBe(0);
      await machine().bothWays();
    }, 90_000);

    test("a configuration that cannot be read stops the reload, not the agent", async () => {
      const { vm } = machine();
      const before = machine().mainPid();
      vm.run("sh", "-c", "printf 'inbound:\\n  port: 99999\\n' > /etc/mesh-agent/config.yaml");
      try {
        expect(vm.exec("systemctl", "reload", "mesh-agent").code).toBe(1);
        const { code, stderr } = vm.exec("mesh-agent", "reload");
        expect(code).toBe(64);
        expect(stderr).toContain("config.yaml:2: inbound.port: expected a whole number");
        expect(machine().journal()).toContain("config.yaml:2: inbound.port: expected a whole number");
        // An upgrade that meets such a file leaves the old version running.
        const file = repackage(deb(), "99.0.1");
        files.push(file);
        machine().install(file);
        expect(machine().mainPid(), machine().journal().slice(-4_000)).toBe(before);
        await machine().bothWays();
      } finally {
        vm.run("sh", "-c", ": > /etc/mesh-agent/config.yaml");
      }
      vm.run("systemctl", "reload", "mesh-agent");
      expect(machine().mainPid()).not.toBe(before);
      await vm.until("ready", () => machine().isReady(), 30_000);
    }, 90_000);

    test("a program that ends at once leaves the running one in its place", async () => {
      const { vm } = machine();
      const before = machine().mainPid();
      vm.run("sh", "-c", "mv /usr/bin/mesh-agent /usr/bin/mesh-agent.kept && cp /bin/false /usr/bin/mesh-agent");
      try {
        vm.run("kill", "-HUP", String(before));
        await vm.until("the journal says so", () =>
          machine().journal().includes("the new process ended with status 1"),
        );
      } finally {
        vm.run("mv", "/usr/bin/mesh-agent.kept", "/usr/bin/mesh-agent");
      }
      expect(machine().mainPid()).toBe(before);
      await machine().bothWays();
    }, 60_000);
  });
}
