import { type ChildProcess, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, test } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import { type MeshedMachine, repackage } from "../meshed-machine.ts";

// By hand: as often as the hardening table says.
const CYCLES = process.env["SOAK"] === "1" ? 100 : 3;
const FAMILIES = ["4", "6"] as const;

/** A login that stays: what is said to it comes back from a shell on the machine. */
class Session {
  readonly #child: ChildProcess;
  #ended = false;
  #heard: ((line: string) => void) | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.once("close", () => {
      this.#ended = true;
    });
    if (child.stdout !== null) createInterface({ input: child.stdout }).on("line", (line) => this.#heard?.(line));
  }

  /** @throws if it has ended, or does not answer within ten seconds. */
  async say(word: string): Promise<void> {
    if (this.#ended) throw new Error("the session has ended");
    const answer = new Promise<string>((resolve, reject) => {
      const limit = setTimeout(() => reject(new Error(`no answer to ${word}`)), 10_000);
      this.#heard = (line) => {
        clearTimeout(limit);
        resolve(line);
      };
    });
    this.#child.stdin?.write(`${word}\n`);
    expect(await answer).toBe(word);
  }

  end(): void {
    this.#child.stdin?.end();
  }
}

/** X01: a real sshd, logins over both families, through everything that is done to the agent. */
export function sessions(machine: () => MeshedMachine, deb: () => string): void {
  describe("SSH", () => {
    test("sessions stay and new logins work through apply, reload, crash, restart, flush, upgrade, down and purge", async () => {
      const { vm, lab, host } = machine();
      const keys = mkdtempSync(join(tmpdir(), "mesh-agent-ssh-"));
      const upgraded = repackage(deb(), "99.1.0");
      try {
        execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(keys, "id")]);
        vm.run(
          "sh",
          "-c",
          `mkdir -p -m 700 /root/.ssh && echo '${readFileSync(join(keys, "id.pub"), "utf8").trim()}' > /root/.ssh/authorized_keys`,
        );
        vm.run("systemctl", "restart", "ssh.service");
        const ssh = (family: string, command: string) => [
          ...["-i", join(keys, "id"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"],
          ...["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"],
          `root@${family === "4" ? host.ip : host.ip6}`,
          command,
        ];
        const from = lab.host(SAMPLE.pod);
        const login = async (family: string) => {
          const { code, stdout, stderr } = await from.exec("ssh", ssh(family, "echo in"), { timeoutMs: 20_000 });
          if (code !== 0 || stdout !== "in\n") throw new Error(`a login over IPv${family} failed: ${stderr}`);
        };
        const kept = FAMILIES.map(
          (family) => new Session(from.spawn("ssh", ssh(family, "exec cat"), { stdio: ["pipe", "pipe", "inherit"] })),
        );

        // Logins at every moment, beside whatever is done.
        let stopping = false;
        let logins = 0;
        const faults: string[] = [];
        const trying = (async () => {
          while (!stopping) {
            for (const family of FAMILIES)
              await login(family).then(
                () => logins++,
                (error: Error) => faults.push(error.message),
              );
          }
        })();
        let words = 0;
        const hold = async (after: string) => {
          for (const session of kept) await session.say(`${after.replaceAll(" ", "-")}-${words++}`);
        };
        const ready = () => vm.until("ready and intercepted", () => machine().isReady(), 60_000);
        const done: string[] = [];
        const step = async (what: string, act: () => unknown) => {
          await act();
          await hold(what);
          done.push(what);
        };

        await hold("before");
        if (vm.exec("mesh-agent", "--version").code !== 0) machine().install(deb());
        await step("up", () => machine().join());
        for (let cycle = 0; cycle < CYCLES; cycle++) {
          await step("apply", () => vm.run("mesh-agent", "intercept", "apply"));
          await step("reload", () => vm.run("systemctl", "reload", "mesh-agent.service"));
          await step("crash", () => vm.run("kill", "-9", String(machine().mainPid())));
          await ready();
          if (cycle % 3 === 2) await step("restart", () => vm.run("systemctl", "restart", "mesh-agent.service"));
          if (cycle % 3 === 1) await step("flush", () => vm.run("nft", "flush", "ruleset"));
          await ready();
        }
        await step("upgrade", () => machine().install(upgraded));
        await step("stop", () => vm.run("systemctl", "stop", "mesh-agent.service"));
        await step("start", () => vm.run("systemctl", "start", "mesh-agent.service"));
        await step("down", () => vm.run("mesh-agent", "down"));
        await step("up again", () => machine().join());
        await step("purge", () => vm.run("apt-get", "purge", "-y", "-q", "mesh-agent"));
        stopping = true;
        await trying;
        process.stdout.write(
          `${done.length} changes, ${logins} logins meanwhile, ${faults.length} failed; 2 sessions of ${words / 2} words each kept\n`,
        );
        expect(faults).toEqual([]);
        expect(logins).toBeGreaterThan(done.length);
        for (const session of kept) session.end();
        machine().install(deb());
      } finally {
        rmSync(keys, { recursive: true, force: true });
        rmSync(upgraded, { force: true });
      }
    }, 3_600_000);
  });
}
