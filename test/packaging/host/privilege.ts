import { describe, expect, test } from "vitest";
import type { MeshedMachine } from "../meshed-machine.ts";

const UNITS = ["mesh-agent-intercept.service", "mesh-agent-names.service", "mesh-agent-names-undo.service"];

/** J01, J02, J04, the environment and the journal: what the process may, what it leaves readable, what it says. */
export function privilege(machine: () => MeshedMachine): void {
  const vm = () => machine().vm;
  const ready = () => vm().until("ready and intercepted", () => machine().isReady(), 60_000);
  const lines = (text: string) => text.trim().split("\n").filter(Boolean);

  describe("privilege", () => {
    test("/proc/PID/status: no root, no capability in any set, none to be had, system calls filtered", async () => {
      await ready();
      const status = vm().run("cat", `/proc/${machine().mainPid()}/status`);
      for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
        expect(status).toMatch(new RegExp(`^${set}:\\s+0+$`, "m"));
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
      expect(status).toMatch(/^Seccomp:\s+2$/m);
      const uid = vm().run("id", "-u", "mesh-agent").trim();
      expect(status).toMatch(new RegExp(`^Uid:\\s+${[uid, uid, uid, uid].join("\\s+")}$`, "m"));
      expect(uid).not.toBe("0");
    });

    test.each(UNITS)("%s is root for a moment only, and exposed little", (unit) => {
      const said = vm().run("systemd-analyze", "security", "--no-pager", unit);
      const level = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1]);
      process.stdout.write(`${unit}: exposure level ${level}\n`);
      expect(level).toBeLessThanOrEqual(3.5);
      expect(vm().exec("systemctl", "is-active", unit).stdout.trim()).toBe("inactive");
    });

    test("files: a walk finds nothing that others may read, also after a backup was put back", async () => {
      const walk = () => {
        expect(lines(vm().run("find", "/var/lib/mesh-agent", "-perm", "/077"))).toEqual([]);
        expect(lines(vm().run("find", "/var/lib/mesh-agent", "!", "-user", "mesh-agent"))).toEqual([]);
        expect(lines(vm().run("find", "/run/mesh-agent", "-type", "s", "-perm", "/007"))).toEqual([]);
        expect(lines(vm().run("find", "/var/lib/mesh-agent", "-type", "f")).length).toBeGreaterThan(2);
      };
      walk();
      vm().run("systemctl", "stop", "mesh-agent.service");
      // By renaming: a connection to its sockets may start the service at any moment.
      vm().run(
        "sh",
        "-c",
        "cd /var/lib && cp -a mesh-agent backup && mv mesh-agent old && mv backup mesh-agent && rm -rf old",
      );
      vm().run("systemctl", "start", "mesh-agent.service");
      await ready();
      walk();
      await machine().bothWays();
    }, 90_000);

    test("what is set for all of systemd does not reach it, and the program refuses it by itself", async () => {
      vm().run(
        "systemctl",
        "set-environment",
        "NODE_EXTRA_CA_CERTS=/x",
        "NODE_OPTIONS=--inspect",
        "LD_BIND_NOW=1",
        "SSL_CERT_FILE=/x",
        "OPENSSL_CONF=/x",
      );
      try {
        vm().run("systemctl", "restart", "mesh-agent.service");
        const names = vm()
          .run("sh", "-c", `tr '\\0' '\\n' < /proc/${machine().mainPid()}/environ | cut -d= -f1`)
          .split("\n");
        expect(names).toContain("PATH");
        expect(names.filter((name) => /^(NODE|LD|SSL|OPENSSL)_/.test(name))).toEqual([]);
      } finally {
        vm().run(
          "systemctl",
          "unset-environment",
          "NODE_EXTRA_CA_CERTS",
          "NODE_OPTIONS",
          "LD_BIND_NOW",
          "SSL_CERT_FILE",
          "OPENSSL_CONF",
        );
      }
      for (const name of ["NODE_EXTRA_CA_CERTS", "OPENSSL_MODULES", "SSL_CERT_DIR", "LD_BIND_NOW"]) {
        const { code, stderr } = vm().exec("env", `${name}=/x`, "mesh-agent", "run");
        expect({ code, stderr }).toEqual({
          code: 64,
          stderr: `mesh-agent: ${name} is set — unset it: it would change what the agent runs or trusts\n`,
        });
      }
      // Node's own variable does nothing to the program, not even in a command that does not refuse it.
      const { code, stdout, stderr } = vm().exec(
        "env",
        "NODE_OPTIONS=--inspect=127.0.0.1:9229 --require=/nonexistent",
        "mesh-agent",
        "--version",
      );
      expect(code).toBe(0);
      expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
      expect(stderr).not.toContain("Debugger");
      await ready();
    }, 90_000);

    test("the journal has its priorities and fields, systemctl its status line", async () => {
      await ready();
      const entries = lines(
        vm().run("journalctl", "-u", "mesh-agent.service", "-o", "json", "--no-pager", "MESH_AGENT_FAMILY=v4"),
      );
      const works = entries
        .map((line) => JSON.parse(line) as Record<string, string>)
        .findLast(({ MESSAGE }) => MESSAGE?.startsWith("interception works"));
      expect(works).toMatchObject({
        PRIORITY: "6",
        SYSLOG_IDENTIFIER: "mesh-agent",
        MESSAGE: "interception works family=v4",
      });
      expect(works?.["_SYSTEMD_UNIT"]).toBe("mesh-agent.service");
      // A reload that cannot be is an error, for whoever looks at errors only.
      vm().run("sh", "-c", "mv /usr/bin/mesh-agent /usr/bin/mesh-agent.kept && cp /bin/false /usr/bin/mesh-agent");
      try {
        vm().run("kill", "-HUP", String(machine().mainPid()));
        await vm().until("an error is on record", () =>
          vm()
            .run("journalctl", "-u", "mesh-agent.service", "-p", "err", "-o", "cat", "--no-pager")
            .includes("not reloaded"),
        );
      } finally {
        vm().run("mv", "/usr/bin/mesh-agent.kept", "/usr/bin/mesh-agent");
      }
      expect(vm().run("systemctl", "show", "-p", "StatusText", "--value", "mesh-agent.service").trim()).toMatch(
        /^ready: shop\/\S+, registered and Ready$/,
      );
    }, 60_000);
  });
}
