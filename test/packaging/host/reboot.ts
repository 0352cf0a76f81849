import { describe, expect, test } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import type { MeshedMachine } from "../meshed-machine.ts";

const EARLY = `[Unit]
Requires=mesh-agent.service
After=mesh-agent.service
[Service]
Type=oneshot
ExecStart=/usr/bin/curl -sS -m 10 -o /root/early.json http://${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local/early
[Install]
WantedBy=multi-user.target
`;

/** A machine that starts again: in order, or because somebody pulled the plug. */
export function reboots(machine: () => MeshedMachine): void {
  const vm = () => machine().vm;
  const shell = (line: string) => vm().run("sh", "-c", line);

  describe("a reboot", () => {
    test("an application that starts after mesh-agent.service makes its first call through the mesh", async () => {
      await vm().until("ready and intercepted", () => machine().isReady(), 60_000);
      shell(`printf '${EARLY.replaceAll("\n", "\\n")}' > /etc/systemd/system/early-app.service`);
      vm().run("systemctl", "enable", "early-app.service");
      const began = performance.now();
      await machine().reboot("in order");
      await vm().until("the application has called", () => vm().exists("root/early.json"), 60_000);
      process.stdout.write(`rebooted and called after ${(performance.now() - began).toFixed(0)} ms; ${startTimes()}\n`);
      // Through the mesh: the pod knows who it was. Without rules, the call would have come in clear, from an address.
      expect(JSON.parse(vm().read("root/early.json"))).toMatchObject({
        app: "web",
        client: "legacy-app.shop.serviceaccount.identity.linkerd.cluster.local",
      });
      vm().run("systemctl", "disable", "early-app.service");
      shell("rm /etc/systemd/system/early-app.service /root/early.json && systemctl daemon-reload");
      await vm().until("ready and intercepted", () => machine().isReady(), 60_000);
      await machine().bothWays();
    }, 180_000);

    test("a power cut, and no agent afterwards: the host's resolver is as it was, to the byte", async () => {
      const wired = shell("cat /etc/resolv.conf");
      expect(wired).toContain("nameserver 127.0.0.140");
      vm().run("systemctl", "stop", "mesh-agent.service");
      const before = shell("cat /etc/resolv.conf; ls -A /etc/systemd/system/sysinit.target.wants 2>/dev/null");
      vm().run("systemctl", "start", "mesh-agent.service");
      expect(shell("cat /etc/resolv.conf")).toBe(wired);
      // Whoever disables it does not stop it; the plug is pulled before anything can be taken back.
      vm().run("systemctl", "disable", "mesh-agent.service");
      await machine().reboot("power cut");
      expect(vm().exec("systemctl", "is-active", "mesh-agent.service").stdout.trim()).toBe("inactive");
      expect(shell("cat /etc/resolv.conf; ls -A /etc/systemd/system/sysinit.target.wants 2>/dev/null")).toBe(before);
      vm().run("systemctl", "enable", "--now", "mesh-agent.service");
      await vm().until("ready and intercepted", () => machine().isReady(), 60_000);
      await machine().bothWays();
    }, 180_000);
  });

  // P18: from exec to what systemd and programs after us wait for.
  const startTimes = () => {
    const property = (name: string) =>
      Number(vm().run("systemctl", "show", "-p", name, "--value", "mesh-agent.service"));
    const ready = /ready workers=\d+ afterMs=(\d+)/.exec(machine().journal())?.[1];
    const active = property("ActiveEnterTimestampMonotonic") - property("ExecMainStartTimestampMonotonic");
    return `agent ready ${ready} ms after its start, unit active after ${(active / 1_000).toFixed(0)} ms`;
  };
}
