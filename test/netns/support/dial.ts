/**
 * Connects to IP and PORT and prints the first line it hears, or the error's code. With a third argument it stays:
 * each line on standard input goes out, each line that comes back is printed.
 */
import { connect } from "node:net";
import { createInterface } from "node:readline";

const [ip = "", port, stay] = process.argv.slice(2);
const socket = connect(Number(port), ip);
socket.setTimeout(3000, () => stay === undefined && socket.destroy(new Error("timeout")));
socket.on("error", (error: NodeJS.ErrnoException) => process.stdout.write(`${error.code ?? error.message}\n`));
if (stay === undefined) {
  socket.once("data", (data) => {
    process.stdout.write(data);
    socket.destroy();
  });
} else {
  socket.on("data", (data) => process.stdout.write(data));
  socket.on("end", () => process.stdout.write("end\n"));
  socket.on("close", () => process.exit(0));
  createInterface({ input: process.stdin }).on("line", (line) => socket.write(`${line}\n`));
}
