import { describe, expect, test } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import type { MeshedMachine } from "../meshed-machine.ts";

/** P01, P11, P12, P14, X03, and who is captured: what happens to the process, and what the host feels of it. */
export function faults(machine: () => MeshedMachine): void {
  const ready = () => machine().vm.until("ready and intercepted", () => machine().isReady(), 60_000);
  const url = `http://${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local/x`;
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  describe("faults", () => {
    test("SIGKILL again and again refuses no new connection, and the unit never fails", async () => {
      await ready();
      const load = await machine().load("vm", { fresh: 50 });
      for (let kill = 0; kill < 5; kill++) {
        await pause(1_000);
        const pid = machine().mainPid();
        if (pid > 0) machine().vm.exec("kill", "-9", String(pid));
      }
      await ready();
      const report = await load.end();
      process.stdout.write(`5 × SIGKILL: ${report.sent} connections, ${JSON.stringify(report.failures)}\n`);
      // Those in flight at the moment of a kill break; none is refused.
      expect(Object.keys(report.failures).filter((why) => why.includes("ECONNREFUSED"))).toEqual([]);
      expect(report.failed).toBeLessThan(report.sent / 5);
      // Serving comes before `active`: systemd waits for what it starts after the agent. `failed` would stay.
      const active = () => machine().vm.exec("systemctl", "is-active", "mesh-agent.service").code === 0;
      await machine().vm.until("the unit is active", active);
    }, 120_000);

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

    test("stopped and started ten times, it always serves", async () => {
      const { vm } = machine();
      for (let round = 0; round < 10; round++) {
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
      expect(JSON.parse(vm.read("/root/early.json"))).toMatchObject({ app: "web" });
      await ready();
    }, 120_000);
  });
}
