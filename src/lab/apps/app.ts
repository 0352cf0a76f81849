import type { AddressInfo, Server } from "node:net";

/** A sample application that is listening. */
export interface App {
  readonly port: number;
  /** Ends all connections. */
  close(): Promise<void>;
}

/** Where an application listens; port 0 is any free one. */
export interface AppOptions {
  readonly host: string;
  readonly port: number;
  /** What it calls itself in its answers. */
  readonly name: string;
}

/** Listens; rejects if the address is taken. Returns the port. */
export function listen(server: Server, options: AppOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: options.host, port: options.port }, () => {
      server.off("error", reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}
