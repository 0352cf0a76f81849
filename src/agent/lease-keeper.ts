import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { connect } from "node:net";
import { LEASE, PROBE } from "../bootstrap/interception/index.ts";
import type { Logger } from "../proxy/core/log.ts";

export type Family = "v4" | "v6";

const PROBE_TIMEOUT_MS = 1_000;
// After a start or a change of the rules: programs that were told to wait for us are waiting.
const EAGER_EVERY_MS = 200;
const EAGER_ROUNDS = 25;

/** `lost`: it worked the last time; `fails`: it did not. */
export type ProbeResult = "works" | "lost" | "fails";

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
  readonly #onResult: (family: Family, result: ProbeResult) => void;
  readonly #status: Record<Family, LeaseStatus> = {
    v4: { intercepted: false, why: "not tried yet" },
    v6: { intercepted: false, why: "not tried yet" },
  };
  readonly #sockets: Partial<Record<Family, UdpSocket>> = {};
  #timer: NodeJS.Timeout | undefined;
  #eager = 0;
  readonly #waiting = new Set<() => void>();
  // One at a time: an older one that times out would contradict a newer one that has come through.
  readonly #probing = new Set<Family>();

  /** @param onResult - A family's state changed, or a probe failed again. */
  constructor(log: Logger, onResult: (family: Family, result: ProbeResult) => void) {
    this.#log = log;
    this.#onResult = onResult;
  }

  /** Harmless when repeated, as {@link stop}. */
  start(): void {
    if (this.#timer === undefined) this.hurry();
  }

  /** Looks now, and often until something works: the rules have just changed, or a worker has just begun to accept. */
  hurry(): void {
    this.#eager = EAGER_ROUNDS;
    this.#round();
  }

  /** Resolves with whether connections come to us, as soon as they do or the time is over. */
  works(withinMs: number): Promise<boolean> {
    const { v4, v6 } = this.#status;
    if (v4.intercepted || v6.intercepted) return Promise.resolve(true);
    return new Promise((resolve) => {
      const done = (worked: boolean) => {
        clearTimeout(limit);
        this.#waiting.delete(work);
        resolve(worked);
      };
      const work = () => done(true);
      const limit = setTimeout(() => done(false), withinMs);
      this.#waiting.add(work);
    });
  }

  stop(): void {
    clearTimeout(this.#timer);
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
    clearTimeout(this.#timer);
    const { v4, v6 } = this.#status;
    // One family's probe may hang where the other's is refused: what took the rules away took them from both.
    const eager = this.#eager-- > 0 && !(v4.intercepted && v6.intercepted);
    this.#timer = setTimeout(() => this.#round(), eager ? EAGER_EVERY_MS : LEASE.renewEveryMs);
    this.#probe("v4");
    this.#probe("v6");
  }

  #probe(family: Family): void {
    if (this.#probing.has(family)) return;
    this.#probing.add(family);
    const socket = connect({ host: PROBE[family], port: PROBE.port, timeout: PROBE_TIMEOUT_MS });
    let settled = false;
    const settle = (intercepted: boolean, why: string) => {
      if (settled) return;
      settled = true;
      this.#probing.delete(family);
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
      if (!intercepted) this.#onResult(family, "fails");
      return;
    }
    if (intercepted) this.#log.info("interception works", { family });
    else this.#log.warn("interception does not work", { family, why });
    this.#onResult(family, intercepted ? "works" : "lost");
    if (intercepted) for (const work of this.#waiting) work();
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
