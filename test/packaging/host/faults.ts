import { describe, expect, test } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import type { MeshedMachine } from "../meshed-machine.ts";

// By hand: the figures of the hardening table; in every run: as much as a busy machine carries.
const SOAK = process.env["SOAK"] === "1";
const KILLS = SOAK ? 10 : 5;
const KILL_RATE = SOAK ? 200 : 50;
const KILL_EVERY_MS = SOAK ? 6_000 : 1_500;
const RESTARTS = SOAK ? 50 : 10;
const RELOADS = SOAK ? 20 : 3;

/** P01, P11, P12, P14, X03, and who is captured: what happens to the process, and what the host feels of it. */
export function faults(machine: () => MeshedMachine): void {
  const ready = () => machine().vm.until("ready and intercepted", () => machine().isReady(), 60_000);
  const url = `http://${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local/x`;
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  describe("faults", () => {
    test("SIGKILL again and again refuses no new connection, and the unit never fails", async () => {
      await ready();
      const { vm } = machine();
      const load = await machine().load("vm", { fresh: KILL_RATE });
      const backMs: number[] = [];
      for (let kill = 0; kill < KILLS; kill++) {
        const next = performance.now() + KILL_EVERY_MS;
        const pid = machine().mainPid();
        if (pid > 0) vm.exec("kill", "-9", String(pid));
        const began = performance.now();
        // It waits at the socket until somebody answers.
        if (vm.exec("curl", "-sSf", "-m", "20", "-o", "/dev/null", url).code === 0)
          backMs.push(performance.now() - began);
        await pause(Math.max(0, next - performance.now()));
      }
      await ready();
      const report = await load.end();
      process.stdout.write(
        `${KILLS} × SIGKILL: ${report.sent} connections, ${JSON.stringify(report.failures)}; ` +
          `answered again after ${backMs.map((ms) => ms.toFixed(0)).join(", ")} ms\n`,
      );
      // Those in flight at the moment of a kill break; none is refused.
      expect(Object.keys(report.failures).filter((why) => why.includes("ECONNREFUSED"))).toEqual([]);
      expect(report.failed).toBeLessThan(report.sent / 5);
      expect(backMs).toHaveLength(KILLS);
      // Serving comes before `active`: systemd waits for what it starts after the agent. `failed` would stay.
      const active = () => vm.exec("systemctl", "is-active", "mesh-agent.service").code === 0;
      await vm.until("the unit is active", active);
    }, 150_000);

    test("stopped by SIGSTOP, the agent loses its lease and the host goes direct; the watchdog brings it back", async () => {
      await ready();
      const { vm } = machine();
      const pid = machine().mainPid();
      const began = performance.now();
      vm.run("kill", "-STOP", String(pid));
      try {
        const gone = () => !/\bipv4\b/.test(vm.run("nft", "list", "set", "inet", "mesh_agent", "lease"));
        await vm.until("the lease has run out", gone, 15_000);
        process.stdout.write(`the lease ran out after ${(performance.now() - began).toFixed(0)} ms\n`);
        expect(performance.now() - began).toBeLessThan(13_000);
        // The exempt port is open the whole time.
        expect(vm.exec("nft", "list", "table", "inet", "mesh_agent").stdout).toContain('"SSH"');
        await vm.until("systemd has replaced it", () => ![0, pid].includes(machine().mainPid()), 60_000);
        await ready();
        process.stdout.write(`meshed again after ${(performance.now() - began).toFixed(0)} ms\n`);
      } finally {
        vm.exec("kill", "-KILL", String(pid));
      }
      await machine().bothWays();
    }, 150_000);

    test("SIGTERM without a connection ends it at once", async () => {
      await ready();
      const { vm } = machine();
      await vm.until(
        "no connection is open",
        () => vm.run("ss", "-Hnt", "state", "established", "( sport = 4140 or sport = 4143 )").trim() === "",
        60_000,
      );
      const began = performance.now();
      vm.run("systemctl", "stop", "mesh-agent.service");
      const took = performance.now() - began;
      process.stdout.write(`an idle agent stopped in ${took.toFixed(0)} ms\n`);
      expect(took).toBeLessThan(2_000);
      expect(vm.run("systemctl", "show", "-p", "ExecMainStatus", "--value", "mesh-agent.service").trim()).toBe("0");
      vm.run("systemctl", "start", "mesh-agent.service");
      await ready();
    }, 150_000);

    test("a second SIGTERM hastens what the first one waits for", async () => {
      await ready();
      const { vm } = machine();
      const load = await machine().load("vm", { opaque: 2, seconds: 60 });
      const pid = machine().mainPid();
      vm.run("kill", "-TERM", String(pid));
      await vm.until("it drains", () => machine().status()?.state === "draining");
      await pause(1_000);
      expect(machine().runs(pid)).toBe(true);
      const began = performance.now();
      vm.run("kill", "-TERM", String(pid));
      await vm.until("it has ended", () => !machine().runs(pid), 20_000);
      process.stdout.write(
        `drain with two open connections, second SIGTERM: ended ${(performance.now() - began).toFixed(0)} ms later\n`,
      );
      expect(performance.now() - began).toBeLessThan(5_000);
      expect((await load.end()).opaque.cut).toBe(2);
      await ready();
    }, 120_000);

    test("a stop during a start is a stop: nothing is left, nothing has failed", async () => {
      const { vm } = machine();
      // With its sockets: a caller would start it again, as he should. One that comes while the agent starts makes systemd
      // cancel the stop; said again, it has to succeed.
      const stopUnits = ["systemctl", "stop", "mesh-agent.service", "mesh-agent-*.socket"];
      const stop = () => {
        const { code, stderr } = vm.exec(...stopUnits);
        if (code === 0) return;
        expect(stderr).toContain("canceled");
        vm.run(...stopUnits);
      };
      const what = ["Result", "ExecMainCode", "ExecMainStatus", "ExecStartPre"].flatMap((name) => ["-p", name]);
      try {
        stop();
        for (const afterMs of [0, 50, 150, 300, 600]) {
          vm.run("systemctl", "start", "--no-block", "mesh-agent.service");
          await pause(afterMs);
          const began = performance.now();
          stop();
          expect(performance.now() - began).toBeLessThan(10_000);
          const state = vm.exec("systemctl", "is-active", "mesh-agent.service").stdout.trim();
          const why = state === "inactive" ? "" : vm.run("systemctl", "show", ...what, "mesh-agent.service");
          expect(`${state}${why}`, `stopped after ${afterMs} ms\n${vm.recent()}`).toBe("inactive");
          expect(vm.exec("pgrep", "-xc", "mesh-agent").stdout.trim()).toBe("0");
        }
      } finally {
        vm.run("systemctl", "start", "mesh-agent.service");
      }
      await ready();
      await machine().bothWays();
    }, 150_000);

    test("reloaded again and again under load, the listening sockets are the same and lose nothing", async () => {
      await ready();
      const { vm } = machine();
      const inodes = () =>
        [...vm.run("ss", "-Hltne", "( sport = 4143 or sport = 4140 or sport = 4191 )").matchAll(/ino:(\d+)/g)]
          .map(([, inode]) => inode)
          .sort();
      const before = inodes();
      expect(before.length).toBeGreaterThanOrEqual(4);
      const load = await machine().load("vm", { fresh: 50, kept: 50 });
      for (let reload = 0; reload < RELOADS; reload++) {
        vm.run("systemctl", "reload", "mesh-agent.service");
        expect(inodes()).toEqual(before);
      }
      await pause(1_000);
      const report = await load.end();
      process.stdout.write(
        `${RELOADS} reloads: ${report.sent} requests, ${report.failed} failed ${JSON.stringify(report.failures)}\n`,
      );
      expect(report.failures).toEqual({});
      await ready();
    }, 200_000);

    test("stopped and started again and again, it always serves", async () => {
      const { vm } = machine();
      for (let round = 0; round < RESTARTS; round++) {
        vm.run("systemctl", "stop", "mesh-agent.service");
        vm.run("systemctl", "start", "mesh-agent.service");
      }
      await ready();
      await machine().bothWays();
    }, 150_000);

    test("SIGUSR1 opens no inspector", () => {
      const { vm } = machine();
      const pid = machine().mainPid();
      vm.run("kill", "-USR1", String(pid));
      expect(vm.run("ss", "-Hlnt").includes(":9229")).toBe(false);
      expect(machine().mainPid()).toBe(pid);
    });

    test("a program that is started after mesh-agent.service finds a ready mesh", async () => {
      const { vm } = machine();
      vm.run("systemctl", "stop", "mesh-agent.service");
      vm.run(
        ...["systemd-run", "--wait", "--collect", "--quiet", "--unit=early-app"],
        ...["-p", "Requires=mesh-agent.service", "-p", "After=mesh-agent.service"],
        ...["curl", "-sS", "-m", "10", "-o", "/root/early.json", url],
      );
      // Through the mesh: in clear, the pod would not know who it was.
      expect(JSON.parse(vm.read("/root/early.json"))).toMatchObject({
        app: "web",
        client: "legacy-app.shop.serviceaccount.identity.linkerd.cluster.local",
      });
      await ready();
    }, 120_000);
  });
}
