import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { readStrictly, type StrictRequest } from "./strict-http1.ts";

/** Said by nobody but this origin, so that answers of the proxy's own are told apart. */
export const ANSWERED = "x-origin: strict";

/**
 * An HTTP/1 application that reads by RFC 9112's grammar without any tolerance, answers each complete request with 200 and
 * nothing else, and remembers whatever a strict reader would not accept.
 */
export class StrictOrigin {
  readonly requests: StrictRequest[] = [];
  /** What was not in the grammar, or came behind a message that was cut. */
  readonly faults: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => this.#serve(socket));
  }

  static async start(): Promise<StrictOrigin> {
    const server = createServer();
    const origin = new StrictOrigin(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return origin;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    let bytes: Buffer = Buffer.alloc(0);
    let answered = 0;
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      let requests: StrictRequest[];
      try {
        requests = readStrictly(bytes).requests;
      } catch (error) {
        this.faults.push(`${(error as Error).message}: ${JSON.stringify(bytes.toString("latin1").slice(0, 300))}`);
        socket.destroy();
        return;
      }
      for (const request of requests.slice(answered)) {
        this.requests.push(request);
        answered++;
        socket.write(`HTTP/1.1 200 OK\r\n${ANSWERED}\r\nContent-Length: 0\r\n\r\n`);
      }
    });
  }
}
