/** Pushes bytes through a port for some time, waits until the far end has read them all, and prints how many. */
import { connect } from "node:net";

interface Options {
  readonly port: number;
  readonly seconds: number;
  readonly connections: number;
}

export interface BulkResult {
  readonly bytes: number;
  readonly seconds: number;
}

const CHUNK = Buffer.alloc(256 * 1024, "mesh");
const options = JSON.parse(process.argv[2] ?? "{}") as Options;
const startedAt = performance.now();

function push(): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: options.port, host: "127.0.0.1" });
    const more = (): void => {
      while (performance.now() - startedAt < options.seconds * 1000) if (!socket.write(CHUNK)) return;
      socket.off("drain", more);
      socket.end();
    };
    socket.on("connect", more).on("drain", more);
    // The sink closes once it has read everything.
    socket.resume().on("end", () => resolve(socket.bytesWritten));
    socket.on("error", reject);
  });
}

const counts = await Promise.all(Array.from({ length: options.connections }, push));
const result: BulkResult = {
  bytes: counts.reduce((sum, count) => sum + count, 0),
  seconds: (performance.now() - startedAt) / 1000,
};
console.log(JSON.stringify(result));
