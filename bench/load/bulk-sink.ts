/** The application behind the opaque pairs: reads and forgets. */
import { createServer } from "node:net";

const { port } = JSON.parse(process.argv[2] ?? "{}") as { readonly port: number };

createServer((socket) => {
  socket.on("error", () => {});
  socket.resume();
}).listen({ port, host: "127.0.0.1" });
