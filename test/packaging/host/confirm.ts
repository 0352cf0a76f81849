import { describe, expect, test } from "vitest";
import type { MeshedMachine } from "../meshed-machine.ts";

/** X11: what `up` does to a host on which the rules do not work, and on one on which they do. */
export function confirmation(machine: () => MeshedMachine): void {
  const state = (unit: string) => machine().vm.exec("systemctl", "is-active", unit).stdout.trim();
  const table = () => machine().vm.exec("nft", "list", "table", "inet", "mesh_agent").code;

  describe("confirmation", () => {
    test("`up` on a host that is meshed asks for nothing and changes nothing", () => {
      const pid = machine().mainPid();
      const answer = JSON.parse(machine().vm.run("mesh-agent", "up", "--yes", "-o", "json")) as {
        steps: { name: string; result: string }[];
      };
      expect(answer.steps.find(({ name }) => name === "confirmation")?.result).toContain("not needed");
      expect(machine().mainPid()).toBe(pid);
      expect(state("mesh-agent-revert.timer")).toBe("inactive");
    }, 60_000);

    test("rules that do not work are taken back, with the reason", async () => {
      const { vm } = machine();
      expect(vm.exec("mesh-agent", "down").code).toBe(0);
      expect(table()).not.toBe(0);
      // Somebody else's rule swallows what our own probe sends.
      vm.run("nft", "add table inet foreign");
      vm.run("nft", "add chain inet foreign output { type filter hook output priority 0; }");
      vm.run("nft", "add rule inet foreign output ip daddr 192.0.2.1 drop");
      vm.run("nft", "add rule inet foreign output ip6 daddr 2001:db8::1 drop");
      const { code, stderr } = vm.exec("mesh-agent", "up", await machine().invite(), "--yes");
      expect(stderr).toContain("undone, because no connection comes to the agent");
      expect(code).toBe(73);
      expect(table()).not.toBe(0);
      expect(vm.run("ip", "rule")).not.toContain("4140");
      for (const unit of ["mesh-agent.service", "mesh-agent-inbound.socket", "mesh-agent-control.socket"])
        expect(state(unit)).toBe("inactive");
      expect(state("mesh-agent-revert.timer")).toBe("inactive");
      vm.run("nft", "delete table inet foreign");
    }, 180_000);

    test("the clock of systemd undoes it when whoever ran `up` is gone", async () => {
      const { vm } = machine();
      // On a terminal that nobody types on.
      vm.spawn("sh", "-c", "sleep 120 | script -qec 'echo $$ > /root/up.pid; exec mesh-agent up' /dev/null");
      await vm.until("the rules are there, and nobody has kept them", () => table() === 0, 60_000);
      await vm.until("intercepted", () => machine().isReady(), 30_000);
      vm.run("sh", "-c", "kill -9 $(cat /root/up.pid)");
      expect(state("mesh-agent-revert.timer")).toBe("active");
      // Its time is not waited for: what it would start is started.
      vm.run("systemctl", "start", "mesh-agent-revert.service");
      await vm.until("undone", () => table() !== 0 && state("mesh-agent.service") === "inactive", 30_000);
    }, 180_000);
  });
}
