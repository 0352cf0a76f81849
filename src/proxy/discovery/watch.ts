import type { Clock, Millis, Rng } from "../core/clock.ts";

/** What is used of a server stream of `@grpc/grpc-js`. */
export interface GrpcStream<Response> {
  on(event: "data", listener: (message: Response) => void): unknown;
  on(event: "error", listener: (error: Error & { readonly code?: number; readonly details?: string }) => void): unknown;
  on(event: "end", listener: () => void): unknown;
  cancel(): void;
}

/** What is used of a client of `@grpc/grpc-js`: its `Client` fits. */
export interface GrpcClient {
  makeServerStreamRequest<Request, Response>(
    path: string,
    serialize: (request: Request) => Buffer,
    deserialize: (bytes: Buffer) => Response,
    request: Request,
  ): GrpcStream<Response>;
}

/** Timers, handed in so that time can be moved. */
export interface Timers {
  /** Calls back once, no earlier than after `ms`. Returns the way to call it off. */
  after(ms: Millis, callback: () => void): () => void;
}

export interface WatchLimits {
  /** From the call to the first message. */
  readonly initialMs: Millis;
  /** Between messages. */
  readonly idleMs: Millis;
  /** Of a stream. */
  readonly lifetimeMs: Millis;
}

/** What Linkerd's chart sets: inbound.md §4.5, outbound.md §1.5. */
export const DEFAULT_WATCH_LIMITS: WatchLimits = { initialMs: 3_000, idleMs: 300_000, lifetimeMs: 3_600_000 };

// outbound.md §1.5
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 60_000;
// Linkerd waits up to a minute here, too. A server that is not there costs nothing to ask (the channel paces its own
// connects), and when it returns the mesh must be whole again within seconds.
const ABSENT_BACKOFF_MAX_MS = 4_000;
const BACKOFF_JITTER = 0.1;
// A server that answers and hangs up at once must not be asked ten times a second for ever.
const SETTLED_MS = 10_000;

/** gRPC codes that matter here. */
export const INVALID_ARGUMENT = 3;
const DEADLINE_EXCEEDED = 4;
export const NOT_FOUND = 5;
export const FAILED_PRECONDITION = 9;
export const UNIMPLEMENTED = 12;
const UNAVAILABLE = 14;
const CANCELLED = 1;
// Not we have cancelled: a server that goes down resets its streams by that code.
const ABSENT: ReadonlySet<number> = new Set([UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED]);

export interface WatchDeps {
  readonly clock: Pick<Clock, "now">;
  readonly timers: Timers;
  readonly rng: Rng;
  /** Undefined: no limits, as Linkerd does it for a control plane on loopback. */
  readonly limits: WatchLimits | undefined;
}

export interface WatchOwner<Response> {
  /** Calls the method; undefined: there is no connection to call on yet. */
  open(): GrpcStream<Response> | undefined;
  /** A stream begins; what it says first may have to replace everything. */
  opened(): void;
  message(message: Response): void;
  /** The watch is over, by one of the terminal codes. */
  refused(code: number, why: string): void;
  /** Will be tried again: for logs and status. */
  interrupted(why: string): void;
}

/**
 * A server stream that is opened again whenever it ends, for any reason but a terminal code. Its owner keeps the last
 * value meanwhile.
 *
 * ```text
 *   waiting ──▶ opening ── first message ──▶ live
 *      ▲           │ error, end, initial limit │ error, end, idle limit
 *      └───────────┴─────── backoff ───────────┘      lifetime limit: opening again at once
 *   terminal code: refused, for good
 * ```
 */
export class Watch<Response> {
  readonly #owner: WatchOwner<Response>;
  readonly #terminal: ReadonlySet<number>;
  readonly #deps: WatchDeps;
  #state: "waiting" | "opening" | "live" | "over" = "waiting";
  #stream: GrpcStream<Response> | undefined;
  #failures = 0;
  #openedAt: Millis = 0;
  #messageAt: Millis = 0;
  #callOff: (() => void) | undefined;
  #callOffLifetime: (() => void) | undefined;

  constructor(owner: WatchOwner<Response>, terminal: ReadonlySet<number>, deps: WatchDeps) {
    this.#owner = owner;
    this.#terminal = terminal;
    this.#deps = deps;
  }

  /** `live`: the stream is open and has said something. */
  get state(): "waiting" | "opening" | "live" | "over" {
    return this.#state;
  }

  start(): void {
    this.#open();
  }

  /** Ends the watch. Nothing is called any more. */
  stop(): void {
    this.#state = "over";
    this.#drop();
  }

  /** Tries now instead of when the backoff is over: there is a new connection, or a new identity. */
  retryNow(): void {
    if (this.#state !== "waiting") return;
    this.#failures = 0;
    this.#open();
  }

  /** How long the present stream has been open; 0 without one. */
  get openForMs(): Millis {
    return this.#stream === undefined ? 0 : this.#deps.clock.now() - this.#openedAt;
  }

  /** Asks again, although the stream seems well or has been refused: it may have fallen silent, or the times changed. */
  reopen(): void {
    if (this.#state !== "waiting") this.#open();
  }

  #open(): void {
    this.#drop();
    let stream: GrpcStream<Response> | undefined;
    try {
      stream = this.#owner.open();
    } catch (error) {
      // grpc-js refuses calls on a client that was closed, for instance to be replaced by one with a new identity.
      this.#again(UNAVAILABLE, String(error));
      return;
    }
    if (stream === undefined) {
      this.#again(UNAVAILABLE, "no connection to the control plane");
      return;
    }
    this.#listen(stream);
  }

  #listen(stream: GrpcStream<Response>): void {
    const { clock, timers, limits } = this.#deps;
    this.#state = "opening";
    this.#stream = stream;
    this.#openedAt = clock.now();
    // Listeners stay for good: grpc-js reports a cancelled stream as an error, which must find one.
    stream.on("data", (message) => {
      if (this.#stream === stream) this.#received(message);
    });
    stream.on("error", (error) => {
      if (this.#stream === stream) this.#failed(error.code ?? 2, error.details || error.message);
    });
    stream.on("end", () => {
      if (this.#stream === stream) this.#failed(0, "stream ended");
    });
    this.#owner.opened();
    if (limits === undefined) return;
    this.#callOff = timers.after(limits.initialMs, () => this.#failed(DEADLINE_EXCEEDED, "no first message in time"));
    this.#callOffLifetime = timers.after(limits.lifetimeMs, () => this.#open());
  }

  #received(message: Response): void {
    const { limits } = this.#deps;
    this.#messageAt = this.#deps.clock.now();
    if (this.#state === "opening") {
      this.#state = "live";
      this.#callOff?.();
      this.#callOff = undefined;
      if (limits !== undefined) this.#watchIdle(limits.idleMs);
    }
    this.#owner.message(message);
  }

  /** One timer per idle period, not one per message. */
  #watchIdle(ms: Millis): void {
    this.#callOff = this.#deps.timers.after(ms, () => {
      const idleMs = this.#deps.limits?.idleMs ?? Number.POSITIVE_INFINITY;
      const left = this.#messageAt + idleMs - this.#deps.clock.now();
      if (left > 0) this.#watchIdle(left);
      else this.#failed(DEADLINE_EXCEEDED, "no message for too long");
    });
  }

  #failed(code: number, why: string): void {
    const settled = this.#state === "live" && this.#deps.clock.now() - this.#openedAt >= SETTLED_MS;
    this.#drop();
    if (this.#terminal.has(code)) {
      this.#state = "over";
      this.#owner.refused(code, why);
      return;
    }
    if (settled) this.#failures = 0;
    this.#again(code, why);
  }

  #again(code: number, why: string): void {
    const max = ABSENT.has(code) ? ABSENT_BACKOFF_MAX_MS : BACKOFF_MAX_MS;
    const base = Math.min(max, BACKOFF_MIN_MS * 2 ** this.#failures);
    this.#failures++;
    this.#state = "waiting";
    this.#callOff = this.#deps.timers.after(base * (1 + BACKOFF_JITTER * this.#deps.rng()), () => this.#open());
    this.#owner.interrupted(why);
  }

  #drop(): void {
    this.#callOff?.();
    this.#callOffLifetime?.();
    this.#callOff = undefined;
    this.#callOffLifetime = undefined;
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.cancel();
  }
}
