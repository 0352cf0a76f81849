import { once } from "node:events";
import { createServer as createHttp1, type RequestListener } from "node:http";
import { createServer as createHttp2, type ServerOptions } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";

/** An application that takes HTTP/1 and HTTP/2 with prior knowledge on one port, answered by one listener. */
export interface BothApp {
  readonly port: number;
  readonly sockets: ReadonlySet<Socket>;
  close(): void;
}

export async function bothApp(answer: RequestListener, options: ServerOptions = {}): Promise<BothApp> {
  const http1 = createHttp1(answer);
  const http2 = createHttp2(options, answer as unknown as Parameters<typeof createHttp2>[1]);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.once("data", (first: Buffer) => {
      socket.pause();
      socket.unshift(first);
      (first[0] === 0x50 && first[2] === 0x49 ? http2 : http1).emit("connection", socket);
      process.nextTick(() => socket.resume());
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
