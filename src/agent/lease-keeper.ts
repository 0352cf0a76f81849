import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { connect } from "node:net";
import { LEASE, PROBE } from "../bootstrap/interception/index.ts";
import type { Logger } from "../proxy/core/log.ts";

type Family = "v4" | "v6";

const PROBE_TIMEOUT_MS = 1_000;

/** What the keeper last saw, per address family. */
export interface LeaseStatus {
  /** Whether the last self-probe went through the interception to a worker. */
  readonly intercepted: boolean;
  readonly why: string;
}

/**
 * Keeps new connections coming our way. Every two seconds it dials the probe address; only if a worker of ours ended
 * that connection does it renew the kernel's lease. An agent that hangs, or whose workers do, loses the lease, and the
 * kernel lets new connections pass.
 */
export class LeaseKeeper {
  readonly #log: Logger;
  readonly #onResult: (family: Family) => void;
  readonly #status: Record<Family, LeaseStatus> = {
    v4: { intercepted: false, why: "not tried yet" },
    v6: { intercepted: false, why: "not tried yet" },
  };
  readonly #sockets: Partial<Record<Family, UdpSocket>> = {};
  #timer: NodeJS.Timeout | undefined;

  /** @param onResult - A family's state changed, or a probe failed again. */
  constructor(log: Logger, onResult: (family: Family) => void) {
    this.#log = log;
    this.#onResult = onResult;
  }

  /** Harmless when repeated, as {@link stop}. */
  start(): void {
    this.#timer ??= setInterval(() => this.#round(), LEASE.renewEveryMs);
    this.#round();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const family of ["v4", "v6"] as const) {
      this.#sockets[family]?.close();
      delete this.#sockets[family];
    }
  }

  status(family: Family): LeaseStatus {
    return this.#status[family];
  }

  #round(): void {
    this.#probe("v4");
    this.#probe("v6");
  }

  #probe(family: Family): void {
    const socket = connect({ host: PROBE[family], port: PROBE.port, timeout: PROBE_TIMEOUT_MS });
    let settled = false;
    const settle = (intercepted: boolean, why: string) => {
      if (settled) return;
      settled = true;
      socket.destroy();
      this.#settled(family, intercepted, why);
    };
    // Being accepted proves only that the kernel queues; the end proves that a worker is alive.
    socket.on("end", () => settle(true, ""));
    socket.on("timeout", () => settle(false, "no worker took the probe in time"));
    socket.on("error", (error) => settle(false, error.message));
    socket.on("close", () => settle(false, "closed without an end"));
    socket.resume();
  }

  #settled(family: Family, intercepted: boolean, why: string): void {
    const before = this.#status[family];
    this.#status[family] = { intercepted, why };
    // Not after the end: what renews then is the successor.
    if (this.#timer === undefined) return;
    if (intercepted) this.#renew(family);
    if (before.intercepted === intercepted) {
      if (!intercepted) this.#onResult(family);
      return;
    }
    if (intercepted) this.#log.info("interception works", { family });
    else this.#log.warn("interception does not work", { family, why });
    this.#onResult(family);
  }

  #renew(family: Family): void {
    let socket = this.#sockets[family];
    if (socket === undefined) {
      socket = createSocket(family === "v4" ? "udp4" : "udp6");
      socket.unref();
      socket.on("error", (error) => this.#log.warn("the lease could not be renewed", { family, why: error.message }));
      this.#sockets[family] = socket;
    }
    socket.send(Buffer.alloc(0), LEASE.port, LEASE[family]);
  }
}
