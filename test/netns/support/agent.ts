/**
 * Stands for the agent in the interception tests: the two transparent listeners, the lease and the probe, nothing else.
 * It opens its sockets as root and goes on as the uid in its first argument, as under systemd. Each accepted connection
 * hears `outbound|inbound ORIGINAL-DESTINATION` and then its own bytes back. Commands come as lines, answers likewise.
 */
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { transparentListener } from "../../../src/agent/posix.ts";
import { LEASE, PROBE } from "../../../src/bootstrap/interception/lease.ts";

const say = (line: string) => process.stdout.write(`${line}\n`);

for (const [role, address, port] of [
  ["outbound", "127.0.0.1", 4140],
  ["outbound", "::1", 4140],
  ["inbound", "::", 4143],
] as const) {
  const fd = transparentListener({ address, port });
  createServer((socket) => {
    socket.on("error", () => {});
    socket.write(`${role} ${socket.localAddress} ${socket.localPort}\n`);
    socket.pipe(socket);
  }).listen({ fd });
}

const uid = Number(process.argv[2]);
process.setgid?.(uid);
process.setuid?.(uid);

const datagrams = { 4: createSocket("udp4"), 6: createSocket("udp6") };

const commands: Record<string, (...args: string[]) => void> = {
  renew: (family) =>
    family === "6"
      ? datagrams[6].send("", LEASE.port, LEASE.v6, (error) => say(`renewed ${error?.message ?? "ok"}`))
      : datagrams[4].send("", LEASE.port, LEASE.v4, (error) => say(`renewed ${error?.message ?? "ok"}`)),
  dial: (ip = "", port) => dial(ip, Number(port)),
  probe: (family) => dial(family === "6" ? PROBE.v6 : PROBE.v4, PROBE.port),
};

function dial(ip: string, port: number): void {
  const socket = connect(port, ip);
  socket.setTimeout(1500, () => socket.destroy(new Error("timeout")));
  socket.once("data", (data) => {
    say(String(data).trim());
    socket.destroy();
  });
  socket.once("error", (error: NodeJS.ErrnoException) => say(error.code ?? error.message));
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const [name = "", ...args] = line.split(" ");
  commands[name]?.(...args);
});
say("listening");
