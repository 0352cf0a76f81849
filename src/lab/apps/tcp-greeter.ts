import { createServer, type Socket } from "node:net";
import { type App, type AppOptions, listen } from "./app.ts";

/**
 * A server that speaks first, as MySQL and SMTP do: it greets, then sends back each line. A proxy that waits for the
 * client's first bytes would wait for ever, so its port must be opaque.
 */
export async function startTcpGreeter(options: AppOptions): Promise<App> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    // A client that resets is a client that left.
    socket.on("error", () => socket.destroy());
    socket.write(`220 ${options.name} ready\n`);
    socket.pipe(socket);
  });
  const port = await listen(server, options);
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}
