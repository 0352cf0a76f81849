import { describe, expect, test } from "vitest";
import type { MeshedMachine } from "../meshed-machine.ts";

const TABLE = ["list", "table", "inet", "mesh_agent"];
// What the operator is promised, and what a machine that does three other things besides may need more.
const WITHIN_MS = 5_000;
const BUSY_MS = 10_000;
// A probe may fail a second after the rules are back, and systemd takes a moment to start what the agent asks for then.
const QUIET_MS = 1_500;

/** Others at work on the host's rules: noticed and mended, or reported where that is what the operator wants. */
export function foreign(machine: () => MeshedMachine): void {
  const vm = () => machine().vm;
  const ready = () => vm().until("ready and intercepted", () => machine().isReady(), 60_000);
  const planned = () => vm().exec("mesh-agent", "intercept", "verify", "-o", "json").code === 0;
  const metric = (line: string) => vm().run("curl", "-sS", "127.0.0.1:4191/metrics").split("\n").includes(line);

  const reasserted = () =>
    Number(
      /^mesh_agent_interception_reasserted_total (\d+)/m.exec(vm().run("curl", "-sS", "127.0.0.1:4191/metrics"))?.[1] ??
        0,
    );

  // Nothing of the last repair is under way any more: it would mend the next damage before the agent can see it.
  const settled = async () => {
    await ready();
    const repairs = () =>
      `${reasserted()} ${vm().run("systemctl", "show", "-p", "InvocationID", "mesh-agent-intercept.service")}`;
    let before: string | undefined;
    for (let now = repairs(); now !== before; now = repairs()) {
      before = now;
      await vm().until(
        "both families work, and root has nothing left to do",
        () =>
          ["v4", "v6"].every((family) => metric(`mesh_agent_interception_works{family="${family}"} 1`)) &&
          vm().exec("systemctl", "is-active", "mesh-agent-intercept.service").stdout.trim() === "inactive",
        30_000,
      );
      await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    }
  };

  describe("others at work on the rules", () => {
    test.each([
      ["nft flush ruleset", "nft flush ruleset"],
      ["nft delete table", "nft delete table inet mesh_agent"],
      ["a lost rule of IPv4", "ip -4 rule del fwmark 0x1000/0x1000 priority 1040"],
      ["a lost rule of IPv6", "ip -6 rule del fwmark 0x1000/0x1000 priority 1040"],
      ["a flushed routing table", "ip route flush table 4140; ip -6 route flush table 4140"],
    ])(
      "%s: noticed and mended",
      async (what, command) => {
        await settled();
        expect(planned()).toBe(true);
        const asked = reasserted();
        vm().run("sh", "-c", command);
        const began = performance.now();
        // Somebody did take something away, and the agent did see it.
        await vm().until("it has been noticed", () => reasserted() > asked, 15_000);
        // Without asking `verify` all the time: it would itself be load.
        const whole = () =>
          vm().exec("nft", ...TABLE).code === 0 &&
          ["-4", "-6"].every(
            (family) =>
              vm().run("ip", family, "rule", "show", "priority", "1040").split("\n").length === 3 &&
              vm().exec("ip", family, "route", "show", "table", "4140").stdout.includes("dev lo"),
          );
        await vm().until("everything is back", whole, 15_000);
        const took = performance.now() - began;
        process.stdout.write(`${what}: mended after ${took.toFixed(0)} ms (promised ${WITHIN_MS})\n`);
        expect(took).toBeLessThan(BUSY_MS);
        await ready();
        expect(planned()).toBe(true);
      },
      60_000,
    );

    test("told not to mend, it reports and leaves them so", async () => {
      await ready();
      const configure = (text: string) =>
        vm().run("sh", "-c", `printf '${text}' > /etc/mesh-agent/config.yaml && systemctl reload mesh-agent`);
      configure("interception:\\n  reassert: false\\n");
      await settled();
      expect(metric('mesh_agent_interception_works{family="v4"} 1')).toBe(true);
      vm().run("nft", "flush", "ruleset");
      await vm().until("it says so", () =>
        machine().journal().includes("the interception rules are gone and are left so"),
      );
      await vm().until("the metric says so", () => metric('mesh_agent_interception_works{family="v4"} 0'));
      expect(machine().status()?.interception.v4).toBe(false);
      const verified = vm().exec("mesh-agent", "intercept", "verify");
      expect(verified.code).toBe(73);
      expect(verified.stdout).toContain("table-missing");
      // Two more rounds of probes later still nothing.
      await new Promise((resolve) => setTimeout(resolve, 4_500));
      expect(vm().exec("nft", ...TABLE).code).not.toBe(0);
      vm().run("mesh-agent", "intercept", "apply");
      await ready();
      configure("");
      await ready();
      expect(planned()).toBe(true);
    }, 90_000);
  });
}
