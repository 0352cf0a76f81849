import { once } from "node:events";
import type { Readable } from "node:stream";
import { describe, expect, test } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import { MemoryGroup, outerPid } from "../memory-group.ts";
import type { MeshedMachine } from "../meshed-machine.ts";

const ECHO = `
import socket, threading
server = socket.create_server(('', 22))
print('up', flush=True)
def run(peer):
    while data := peer.recv(99):
        peer.sendall(data)
while True:
    threading.Thread(target=run, args=(server.accept()[0],), daemon=True).start()
`;

const USER = `
import socket, sys, threading, time
where = (sys.argv[1], 22)
kept = socket.create_connection(where, timeout=10)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
rounds = 0
while not stop.is_set():
    with socket.create_connection(where, timeout=10) as new:
        for session in (kept, new):
            session.sendall(b'x')
            assert session.recv(9) == b'x'
    rounds += 1
    time.sleep(.1)
print('kept', rounds, flush=True)
`;

// More than an agent at rest asks for in a while, less than one that has work to do.
const ROOM_BYTES = 16 * 1024 * 1024;

/** P05, P09: memory and disk that run out. */
export function limits(machine: () => MeshedMachine): void {
  const ready = () => machine().vm.until("ready and intercepted", () => machine().isReady(), 60_000);
  const url = `http://${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local/x`;

  describe("limits", () => {
    test("out of memory: killed and back by itself; sessions on the exempt port notice nothing", async () => {
      await ready();
      const { vm, lab, host } = machine();
      // An SSH-like session, from another host to a port that is never captured: open all the time, and new ones.
      vm.run("systemctl", "stop", "ssh.service");
      const session = vm.spawn("python3", "-c", ECHO);
      await once(session.stdout as Readable, "data");
      const user = lab.host(SAMPLE.pod).spawn("python3", ["-c", USER, host.ip], { stdio: ["pipe", "pipe", "inherit"] });
      let said = "";
      user.stdout?.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      const ended = new Promise((resolve) => user.once("close", resolve));

      const inner = machine().mainPid();
      const group = new MemoryGroup(`mesh-agent-test-${process.pid}`);
      try {
        group.hold(outerPid(vm.leader, inner), ROOM_BYTES);
        // Work that needs memory: every stream and connection has buffers of its own.
        const load = await machine().load("vm", { fresh: 200, kept: 200, seconds: 60 });
        const began = performance.now();
        await vm.until("the kernel has killed it", () => machine().mainPid() !== inner, 60_000);
        const killed = performance.now();
        await vm.until("requests are answered again", () => vm.exec("curl", "-sSf", "-m", "2", url).code === 0, 60_000);
        const answered = performance.now();
        const report = await load.end();
        await ready();
        process.stdout.write(
          `out of memory after ${(killed - began).toFixed(0)} ms, requests answered ${(answered - killed).toFixed(0)} ms later; ` +
            `${report.sent} sent meanwhile, ${report.failed} failed ${JSON.stringify(report.failures)}\n`,
        );
        expect(Object.keys(report.failures).filter((why) => why.includes("ECONNREFUSED"))).toEqual([]);
      } finally {
        group.remove();
      }
      expect(machine().journal()).toMatch(/code=killed, status=9\/KILL|oom-kill/);
      user.stdin?.end();
      expect(await ended).toBe(0);
      expect(said).toMatch(/kept \d+/);
      process.stdout.write(`sessions on the exempt port: one kept, ${/kept (\d+)/.exec(said)?.[1]} new, none failed\n`);
      session.kill();
      vm.run("systemctl", "start", "ssh.service");
      await machine().bothWays();
    }, 240_000);

    test.each([
      [
        "a full disk",
        "cp -a /var/lib/mesh-agent /tmp/state && mount -t tmpfs -o size=1m,mode=700,uid=$(id -u mesh-agent),gid=$(id -g mesh-agent) tmpfs /var/lib/mesh-agent && " +
          "cp -a /tmp/state/. /var/lib/mesh-agent/ && ! dd if=/dev/zero of=/var/lib/mesh-agent/full bs=1k status=none",
      ],
      ["a read-only state directory", "mount -o remount,bind,ro /var/lib/mesh-agent"],
    ])(
      "%s costs no request, and no file is left in part",
      async (_, spoil) => {
        await ready();
        const { vm } = machine();
        // In the service's own view of the machine: a restart makes it a new one.
        const inside = (command: string) =>
          vm.exec("nsenter", `--target=${machine().mainPid()}`, "--mount", "sh", "-c", command);
        expect(inside(spoil)).toMatchObject({ code: 0 });
        expect(inside("printf %5000s x > /var/lib/mesh-agent/probe").code).not.toBe(0);
        inside("rm -f /var/lib/mesh-agent/probe");
        try {
          const load = await machine().load("vm", { fresh: 20, kept: 20, streams: 2 });
          await machine().bothWays();
          // The next process lives in the same view, and cannot write either.
          const before = machine().mainPid();
          vm.run("systemctl", "reload", "mesh-agent.service");
          expect(machine().mainPid()).not.toBe(before);
          await ready();
          await machine().bothWays();
          const report = await load.end();
          if (report.failed > 0) process.stderr.write(machine().journal().slice(-6000));
          expect(report.failures).toEqual({});
          expect(report.streams).toEqual({ whole: 2, cut: {} });
          expect(inside("find /var/lib/mesh-agent -name '*.tmp'").stdout).toBe("");
          expect(machine().journal()).toMatch(/ENOSPC|EROFS/);
        } finally {
          vm.run("systemctl", "restart", "mesh-agent.service");
        }
        await ready();
        await machine().bothWays();
      },
      180_000,
    );
  });
}
