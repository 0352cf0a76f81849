import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

/** A request head as an origin saw it, with the socket to answer on. */
export interface SeenRequest {
  readonly head: string;
  readonly path: string;
  readonly socket: Socket;
  /** 0 for the first request on its connection. */
  readonly index: number;
}

/**
 * An HTTP/1 application of bytes: the test says what each head is answered with, however wrong. Request bodies are not
 * read as such; what follows a head is looked at as the next one, as by an application that ignores bodies.
 */
export class RawOrigin {
  readonly seen: SeenRequest[] = [];
  readonly sockets = new Set<Socket>();
  connections = 0;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(answer: (request: SeenRequest) => string | Buffer | undefined): Promise<RawOrigin> {
    const server = createServer();
    const origin = new RawOrigin(server);
    server.on("connection", (socket) => {
      origin.connections++;
      origin.sockets.add(socket);
      socket.on("close", () => origin.sockets.delete(socket));
      socket.on("error", () => {});
      let unread = "";
      let index = 0;
      socket.on("data", (chunk: Buffer) => {
        unread += chunk.toString("latin1");
        for (let end = unread.indexOf("\r\n\r\n"); end >= 0; end = unread.indexOf("\r\n\r\n")) {
          const head = unread.slice(0, end);
          unread = unread.slice(end + 4);
          const request: SeenRequest = { head, path: head.split(" ")[1] ?? "", socket, index: index++ };
          origin.seen.push(request);
          const reply = answer(request);
          if (reply !== undefined && !socket.destroyed) socket.write(reply);
        }
      });
    });
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    return origin;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  paths(): string[] {
    return this.seen.map(({ path }) => path);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.sockets) socket.destroy();
  }
}
