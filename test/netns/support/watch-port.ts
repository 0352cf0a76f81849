/**
 * Watches over a port as an administrator's SSH session would notice: to each IP it holds one connection open for the
 * whole time and exchanges lines over it, and opens a new one every 200 ms. On the first line of standard input it
 * says what it saw, as JSON.
 */
import { connect, type Socket } from "node:net";

const EVERY_MS = 200;
const PATIENCE_MS = 2000;

const [port, ...ips] = process.argv.slice(2);
const seen = ips.map((ip) => ({ ip, opened: 0, failed: [] as string[], exchanged: 0, held: "open" }));

let waiting = ips.length;

function open(ip: string): Socket {
  const socket = connect(Number(port), ip);
  socket.setNoDelay(true);
  return socket;
}

for (const watched of seen) {
  const held = open(watched.ip);
  held.on("data", (data) => {
    watched.exchanged += data.toString().split("\n").length - 1;
  });
  held.on("error", (error: NodeJS.ErrnoException) => {
    watched.held = error.code ?? error.message;
  });
  held.on("close", () => {
    if (watched.held === "open") watched.held = "closed";
  });
  held.once("data", () => {
    waiting--;
    if (waiting === 0) process.stdout.write("listening\n");
  });
  setInterval(() => {
    held.write("still here\n");
    const began = new Date().toISOString();
    const next = open(watched.ip);
    next.setTimeout(PATIENCE_MS, () => next.destroy(new Error("silence")));
    next.on("error", (error: NodeJS.ErrnoException) => watched.failed.push(`${began} ${error.code ?? error.message}`));
    next.once("data", () => {
      watched.opened++;
      next.destroy();
    });
  }, EVERY_MS);
}

process.stdin.once("data", () => {
  process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
});
