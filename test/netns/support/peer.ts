/** An application on both families: every connection hears `NAME from CLIENT` and then its own bytes back. */
import { createServer } from "node:net";

const [name, ...ports] = process.argv.slice(2);
let waiting = ports.length;
for (const port of ports) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.write(`${name} from ${socket.remoteAddress}\n`);
    socket.pipe(socket);
  });
  server.listen(Number(port), "::", () => {
    waiting--;
    if (waiting === 0) process.stdout.write("listening\n");
  });
}
