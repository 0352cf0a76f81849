/**
 * Talks to a server that speaks first and echoes, at HOST and PORT: waits for its greeting, sends LINE so many times
 * as fill 256 KiB, closes its own side at once, and reads to the end. Prints what it heard as JSON.
 */
import { connect } from "node:net";

const BYTES = 256 * 1024;
const [host = "", port, line = ""] = process.argv.slice(2);
const sent = Buffer.alloc(BYTES, `${line}\n`);
const socket = connect({ host, port: Number(port), allowHalfOpen: true });
socket.setTimeout(10_000, () => socket.destroy(new Error("silence")));
const heard: Buffer[] = [];
let error = "";

socket.once("data", () => socket.end(sent));
socket.on("data", (data: Buffer) => heard.push(data));
socket.on("error", (failure: NodeJS.ErrnoException) => {
  error = failure.code ?? failure.message;
});
socket.on("close", () => {
  const all = Buffer.concat(heard);
  const greetingEnd = all.indexOf("\n") + 1;
  const greeting = all.subarray(0, greetingEnd).toString().trim();
  process.stdout.write(`${JSON.stringify({ greeting, whole: all.subarray(greetingEnd).equals(sent), error })}\n`);
});
