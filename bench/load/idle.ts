import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { Material, Pair } from "./hops.ts";

/** What a number of idle connections costs a hop. */
export interface IdleResult {
  readonly held: number;
  /** Proportional set size before and with them, MB of 2^20 bytes. */
  readonly beforeMb: number;
  readonly heldMb: number;
  /** Per connection, KB of 2^10 bytes. */
  readonly kbEach: number;
}

// Connections in clear text are closed after a minute without a request.
const SETTLE_MS = 8_000;

/** Proportional set size of a process, MB of 2^20 bytes: proc(5), `smaps_rollup`. */
export function pssMb(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))?.[1]) / 1024;
}

/**
 * Holds `count` connections that were used once: HTTP/1 in clear text to the outbound hop, or mesh peers' HTTP/2 to the
 * inbound one.
 */
export async function measureIdle(
  pair: Pair,
  material: Material,
  appPort: number,
  count: number,
  mesh: boolean,
  settleMs = SETTLE_MS,
): Promise<IdleResult> {
  const pid = mesh ? pair.inboundPid : pair.outboundPid;
  const hold = async (connections: number): Promise<{ clients: ChildProcess; held: number }> => {
    const options = { port: mesh ? pair.tlsPort : pair.frontPort, count: connections, mesh, appPort, ...material };
    const clients = spawn(process.execPath, [join(import.meta.dirname, "idle-clients.ts"), JSON.stringify(options)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(createInterface({ input: clients.stdout as NodeJS.ReadableStream }), "line")) as [
      string,
    ];
    return { clients, held: Number(line.split(" ")[1]) };
  };
  const release = async (clients: ChildProcess): Promise<void> => {
    clients.kill("SIGTERM");
    if (clients.exitCode === null && clients.signalCode === null) await once(clients, "exit");
    await sleep(settleMs);
  };
  // Code, heap and tables that the first connections bring stay; they are not the price of one more.
  await release((await hold(Math.ceil(count / 20))).clients);
  const beforeMb = pssMb(pid);
  const { clients, held } = await hold(count);
  await sleep(settleMs);
  const heldMb = pssMb(pid);
  await release(clients);
  return { held, beforeMb, heldMb, kbEach: ((heldMb - beforeMb) * 1024) / held };
}
