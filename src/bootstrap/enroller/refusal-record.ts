import { type BootstrapError, type Log, type Peer, printable, type Scheduler } from "../control/index.ts";
import { RateLimit } from "./rate-limit.ts";

// Enough to see what somebody tries; a flood of attempts must not become a flood of lines.
const LINES = { burst: 10, refillMs: 6000, maxSources: 10_000 } as const;
// No honest host is refused so often; answering costs more than not listening.
const REFUSALS = { burst: 500, refillMs: 20, maxSources: 10_000 } as const;
const SHUN_MS = 10_000;
// What was under way is refused yet, after the decision.
const SHUNS = { burst: 1, refillMs: SHUN_MS, maxSources: 10_000 } as const;

export interface RefusalRecordOptions {
  readonly log: Log;
  readonly scheduler: Scheduler;
  /** Ends the caller's connections and takes none of it for so long. */
  readonly shun: (peer: Caller, ms: number) => void;
}

type Caller = Pick<Peer, "address" | "identity"> & Partial<Pick<Peer, "certificate">>;

/**
 * Puts what the enroller refuses on record: a line of the audit log, so many per source and code, the rest counted. Whoever
 * is refused hundreds of times a second is not listened to for a while.
 */
export class RefusalRecord {
  readonly #options: RefusalRecordOptions;
  readonly #lines = new RateLimit(LINES);
  readonly #refusals = new RateLimit(REFUSALS);
  readonly #shuns = new RateLimit(SHUNS);
  #unwritten = 0;

  constructor(options: RefusalRecordOptions) {
    this.#options = options;
  }

  /**
   * @param call - The path of the gRPC method, or `handshake`.
   * @param about - What else helps to find out who it was: the id of an invitation.
   */
  refused(
    call: string,
    peer: Caller,
    error: Pick<BootstrapError, "code" | "message">,
    about: Readonly<Record<string, string>> = {},
  ): void {
    const { log, scheduler, shun } = this.#options;
    const { address, identity = "nobody", certificate } = peer;
    const now = scheduler.now();
    // A host that went bad is not its neighbours behind the same address.
    const key = certificate?.fingerprint256.replaceAll(":", "") ?? address;
    if (!this.#refusals.admit(key, now) && this.#shuns.admit(key, now)) {
      log.warn({ audit: "shunned", address, identity, ms: SHUN_MS }, "refused too often: not listening for a while");
      shun(peer, SHUN_MS);
    }
    const { code } = error;
    if (!this.#lines.admit(`${address} ${code}`, now)) {
      this.#unwritten++;
      return;
    }
    const unwritten = this.#unwritten;
    this.#unwritten = 0;
    const why = printable(error.message, 512);
    log.info({ audit: "refused", call, address, identity, code, why, unwritten, ...about }, "refused");
  }
}
