import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import type { IdentitySource } from "../../proxy/core/identity.ts";
import type { Logger } from "../../proxy/core/log.ts";
import { descriptorOf } from "../../proxy/transport/index.ts";
import { peerCredentials } from "../posix.ts";
import { WorkloadApiServer } from "./server.ts";

export interface SpiffeSocketsOptions {
  /** Ours alone; others may pass through it (0711). */
  readonly directory: string;
  /** Users whose programs get the identity: names or numbers. */
  readonly users: readonly string[];
  /** systemd units whose programs get it, each through a socket that only they see. */
  readonly units: readonly string[];
  readonly identity: IdentitySource;
  readonly log: Logger;
  /** Where names of users are looked up; for tests. */
  readonly passwd?: string;
}

export interface SpiffeSockets {
  close(): void;
}

const SOCKET = "agent.sock";
const MAX_CONNECTIONS = 256;

/**
 * Opens the Workload API's sockets.
 *
 * - `DIRECTORY/agent.sock`, open to everybody, asks the kernel for the uid of whoever connects (SO_PEERCRED): it is
 *   the uid at the moment of the connect, and cannot be forged. root may too: it can read the key anyhow.
 * - `DIRECTORY/units/UNIT/agent.sock` cannot be reached by anybody, since `units` is 0700: systemd, as root, binds
 *   the folder into the unit (`BindReadOnlyPaths=`), and so decides by mount namespace. Looking a unit up by process
 *   id would need other users' /proc, which the agent cannot see, and would be fooled by a reused id.
 *
 * @throws Error if the directory cannot be used, or a unit's name is none.
 */
export async function openSockets(options: SpiffeSocketsOptions): Promise<SpiffeSockets> {
  const { directory, users, units, identity, log, passwd = "/etc/passwd" } = options;
  const api = new WorkloadApiServer({ identity });
  const servers: Server[] = [];
  const open = async (folder: string, allowed: (socket: Socket) => boolean) => {
    const server = createServer((socket) => api.serve(socket, allowed(socket)));
    server.maxConnections = MAX_CONNECTIONS;
    servers.push(server);
    await listen(server, folder);
  };
  const close = () => {
    for (const server of servers) server.close();
    api.close();
  };
  try {
    mkdirSync(directory, { recursive: true });
    chmodSync(directory, 0o711);
    if (users.length > 0) {
      await open(directory, (socket) => {
        const uid = uidOf(socket);
        const allowed = uid === 0 || (uid !== undefined && users.some((user) => isUser(user, uid, passwd)));
        if (!allowed) log.warn("refused the host's identity to a program", { uid: uid ?? -1 });
        return allowed;
      });
    }
    const private_ = join(directory, "units");
    mkdirSync(private_, { recursive: true });
    chmodSync(private_, 0o700);
    for (const unit of units) {
      // systemd.unit(5): what a unit may be called; no path can be made of it.
      if (!/^[A-Za-z0-9:_.\\@-]{1,255}\.service$/.test(unit)) throw new Error(`${unit} is no name of a service unit`);
      const folder = join(private_, unit);
      mkdirSync(folder, { recursive: true });
      chmodSync(folder, 0o755);
      await open(folder, () => true);
    }
    return { close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Bound under another name first: when an older process closes its socket, it removes the name that it bound. */
function listen(server: Server, folder: string): Promise<void> {
  const path = join(folder, SOCKET);
  const fresh = join(folder, `${SOCKET}.${process.pid}`);
  rmSync(fresh, { force: true });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(fresh, () => {
      try {
        chmodSync(fresh, 0o666);
        renameSync(fresh, path);
        resolve();
      } catch (error) {
        reject(error);
      }
    });
  });
}

function uidOf(socket: Socket): number | undefined {
  const fd = descriptorOf(socket);
  return fd === undefined ? undefined : peerCredentials(fd).uid;
}

/** Names are looked up at every connection: a user may be made after the agent was started. */
function isUser(user: string, uid: number, passwd: string): boolean {
  if (/^\d+$/.test(user)) return Number(user) === uid;
  const line = readFileSync(passwd, "utf8")
    .split("\n")
    .find((each) => each.startsWith(`${user}:`));
  return line !== undefined && Number(line.split(":")[2]) === uid;
}
