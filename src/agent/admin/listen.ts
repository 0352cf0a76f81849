import type { Server } from "node:http";
import { CommandError, EXIT } from "../exit.ts";

/**
 * Makes a server listen.
 * @param key - The configuration's, for whoever has to choose another place.
 * @throws CommandError in one line if the place is taken.
 */
export function listen(
  server: Server,
  where: { fd: number } | { path: string } | { host: string; port: number },
  key: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const place =
        "path" in where ? where.path : "port" in where ? `${where.host}:${where.port}` : "a socket from systemd";
      reject(
        new CommandError(
          EXIT.configuration,
          error.code === "EADDRINUSE" ? `${place} is taken` : `cannot listen on ${place}: ${error.message}`,
          `stop what listens there, or change ${key}`,
        ),
      );
    });
    server.listen(where, () => resolve());
  });
}
