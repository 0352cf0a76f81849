import type { BootstrapError, Log, Peer, Scheduler } from "../control/index.ts";
import { RateLimit } from "./rate-limit.ts";

// Enough to see what somebody tries; a flood of attempts must not become a flood of lines.
const LINES = { burst: 10, refillMs: 6000, maxSources: 10_000 } as const;

/** Puts what the enroller refuses on record: a line of the audit log, so many per source, the rest counted. */
export class RefusalRecord {
  readonly #log: Log;
  readonly #scheduler: Scheduler;
  readonly #lines = new RateLimit(LINES);
  #unwritten = 0;

  constructor(log: Log, scheduler: Scheduler) {
    this.#log = log;
    this.#scheduler = scheduler;
  }

  /** @param call - The path of the gRPC method. */
  refused(call: string, peer: Peer, error: BootstrapError): void {
    if (!this.#lines.admit(peer.address, this.#scheduler.now())) {
      this.#unwritten++;
      return;
    }
    const { address, identity = "nobody" } = peer;
    const unwritten = this.#unwritten;
    this.#unwritten = 0;
    const { code, message: why } = error;
    this.#log.info({ audit: "refused", call, address, identity, code, why, unwritten }, "refused");
  }
}
