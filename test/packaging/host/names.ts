import { describe, expect, test } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import type { MeshedMachine } from "../meshed-machine.ts";

const BY_HAND = "# by hand\nnameserver 127.0.0.9\noptions timeout:1 attempts:1\n";
const NAME = `${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local`;

/** The cluster's names on a machine whose own servers do not know them. */
export function names(machine: () => MeshedMachine): void {
  const vm = () => machine().vm;
  const shell = (line: string) => vm().run("sh", "-c", line);
  const resolves = () => vm().exec("getent", "hosts", NAME).stdout.includes(NAME);
  const plan = () =>
    JSON.parse(vm().run("mesh-agent", "names", "plan", "-o", "json")) as { wiring: string; inPlace: string[] };
  const resolvConf = () => shell("cat /etc/resolv.conf");

  describe("names", () => {
    test("resolv.conf: in place while the agent runs, put back when somebody writes it, undone to the byte", async () => {
      await vm().until("ready", () => machine().isReady(), 60_000);
      const before = resolvConf();
      // As a DHCP client does: whole, and without our lines.
      shell(
        `printf '${BY_HAND.replaceAll("\n", "\\n")}' > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf`,
      );
      await vm().until("wired again", () => resolvConf().includes("nameserver 127.0.0.140"));
      expect(plan()).toMatchObject({ wiring: "resolv.conf", inPlace: ["resolv.conf"] });
      await vm().until("the cluster's name is found", resolves);
      expect(vm().exec("getent", "hosts", "nobody.example").code).toBe(2);

      // Another process: over a crash the wiring stays.
      vm().run("kill", "-KILL", String(machine().mainPid()));
      expect(resolvConf()).toContain("127.0.0.140");
      await vm().until("ready again", () => machine().isReady(), 60_000);
      expect(resolves()).toBe(true);

      vm().run("systemctl", "stop", "mesh-agent.service");
      expect(resolvConf()).toBe(BY_HAND);
      vm().run("systemctl", "start", "mesh-agent.service");
      // Whoever starts after the unit finds names: no waiting.
      expect(resolvConf()).toContain("127.0.0.140");
      vm().run("cp", "/etc/resolv.conf", "/etc/resolv.conf.new");
      shell(`printf '%s' '${before}' > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf`);
      await vm().until("wired as at first", () => resolvConf().includes("nameserver 127.0.0.140"));
    }, 180_000);

    test("systemd-resolved: a routing domain on a link of its own, gone with the agent", async () => {
      const before = shell("cp -a /etc/resolv.conf /root/resolv.conf.kept; cat /etc/resolv.conf");
      const links = () => shell("ip -o link | cut -d: -f2 | cut -d@ -f1 | sort");
      const linksBefore = links();
      // The link first: systemd-resolved would take over the servers of a file that is not its own.
      vm().run("ln", "-sf", "../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf");
      vm().run("systemctl", "start", "systemd-resolved.service");
      try {
        await vm().until("wired", () => plan().inPlace.includes("resolved"));
        expect(plan()).toMatchObject({ wiring: "resolved", inPlace: ["resolved"] });
        await vm().until("the cluster's name is found", resolves);
        expect(vm().run("resolvectl", "domain", "mesh-dns")).toContain("~cluster.local");
        // Other names are not ours: the link is no default route.
        expect(vm().run("resolvectl", "default-route", "mesh-dns")).toContain("no");
        expect(vm().exec("resolvectl", "query", "nobody.example").code).not.toBe(0);
        expect(shell("curl -sS 127.0.0.1:4191/metrics")).toContain('mesh_agent_dns_queries_total{result="refused"} 0');
        await machine().bothWays();
        vm().run("systemctl", "stop", "mesh-agent.service");
        expect(links()).toBe(linksBefore);
        expect(vm().run("readlink", "/etc/resolv.conf").trim()).toBe("../run/systemd/resolve/stub-resolv.conf");
      } finally {
        shell("rm -f /etc/resolv.conf; cp -a /root/resolv.conf.kept /etc/resolv.conf");
        vm().exec("systemctl", "stop", "systemd-resolved.service");
        vm().exec("systemctl", "start", "mesh-agent.service");
      }
      await vm().until("ready and wired as before", () => machine().isReady() && resolvConf() === before, 60_000);
    }, 180_000);

    test("a taken port 53 costs names and nothing else", async () => {
      vm().run("systemctl", "stop", "mesh-agent.service", "mesh-agent-dns.socket");
      const holder = vm().spawn(
        "python3",
        "-c",
        "import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('127.0.0.140',53)); print('held',flush=True); time.sleep(120)",
      );
      await new Promise((resolve) => holder.stdout?.once("data", resolve));
      vm().run("systemctl", "start", "mesh-agent.service");
      expect(vm().exec("systemctl", "is-active", "mesh-agent-dns.socket").stdout.trim()).toBe("failed");
      await vm().until("ready", () => machine().isReady(), 60_000);
      expect(plan()).toMatchObject({ wiring: "none", inPlace: [] });
      expect(resolvConf()).not.toContain("127.0.0.140");
      await machine().bothWays();
      vm().run("pkill", "-f", "127.0.0.140");
      vm().run("systemctl", "reset-failed", "mesh-agent-dns.socket");
      vm().run("systemctl", "restart", "mesh-agent.service");
      await vm().until("ready and wired", () => machine().isReady() && resolvConf().includes("127.0.0.140"), 60_000);
    }, 180_000);
  });
}
