import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceError } from "@grpc/grpc-js";
import {
  type EnrollerMessage,
  type HeartbeatSchema,
  type Order,
  Order_Kind,
} from "../../proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import type { Millis, Rng } from "../../proxy/core/clock.ts";
import type { IdentitySource } from "../../proxy/core/identity.ts";
import {
  type AttachStream,
  type BackoffOptions,
  BootstrapError,
  backoffMs,
  decodeConfiguration,
  EnrollerClient,
  enrollerName,
  failureOf,
  type Log,
  type MeshConfiguration,
  type MeshNames,
  type Scheduler,
  type WorkloadName,
} from "../control/index.ts";

/** What the host says of itself. */
export interface HostReadiness {
  readonly ready: boolean;
  /** A CamelCase word, such as `ProbeFailed`; empty when ready. */
  readonly reason: string;
  readonly message: string;
}

/** What the cluster says of the host. */
export interface RegistrationState {
  readonly ready: boolean;
  readonly reason: string;
  readonly message: string;
  readonly addresses: readonly string[];
}

export interface AttachHandlers {
  readonly configuration?: (configuration: MeshConfiguration) => void;
  /** DER of every root. */
  readonly trustAnchors?: (roots: readonly Uint8Array[]) => void;
  readonly registration?: (state: RegistrationState) => void;
  /** Another issuer signs now: renew within so many milliseconds, at a moment of chance. */
  readonly renew?: (withinMs: Millis) => void;
  /** Where the enroller sees us; empty if it does not say. */
  readonly observed?: (address: string) => void;
  /** The workload was revoked: drop the identity. The client has stopped. */
  readonly shutdownIdentity?: (message: string) => void;
  /** A newer process of this machine took over. The client has stopped. */
  readonly superseded?: (message: string) => void;
  /** A refusal that trying again will not change: a clone, a deleted workload. The client has stopped. */
  readonly refused?: (error: BootstrapError) => void;
  readonly state?: (state: AttachState) => void;
}

export type AttachState =
  | { readonly kind: "detached"; readonly error: BootstrapError | undefined; readonly failures: number }
  | { readonly kind: "attaching"; readonly enroller: string }
  | { readonly kind: "attached"; readonly enroller: string; readonly version: string; readonly skewMs: number }
  | { readonly kind: "ended"; readonly why: string };

export interface AttachClientOptions {
  readonly workload: WorkloadName;
  readonly mesh: MeshNames;
  /** In the order to try. */
  readonly enrollers: readonly string[];
  readonly identity: IdentitySource;
  /** SHA-256 of the machine id, hexadecimal. */
  readonly machine: string;
  readonly hostname: string;
  readonly version: string;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** Where the workload is reachable; empty: where the stream comes from. Read at every heartbeat. */
  readonly addresses: () => readonly string[];
  readonly handlers: AttachHandlers;
  readonly backoff?: BackoffOptions;
}

// Below the 30 s that a dead replica's hosts have to come back in.
const BACKOFF: BackoffOptions = { minMs: 1000, maxMs: 10_000 };
// An enroller's hosts all lose it at once: they come to the next one over some seconds, in which it can take them.
const SPREAD_MS = 8000;
const FINAL: ReadonlySet<string> = new Set(["clone", "revoked", "unknown-workload", "version-skew", "workload-taken"]);
const STARTING: HostReadiness = { ready: false, reason: "Starting", message: "the agent is starting" };

/**
 * How long a host waits before it attaches again.
 *
 * @param failures - In a row, at least 1.
 * @param wasAttached - Whether it lost an enroller that it had: then all of that enroller's hosts did.
 */
export function returnDelayMs(failures: number, wasAttached: boolean, rng: Rng, backoff = BACKOFF): Millis {
  const delay = backoffMs(failures, backoff, rng);
  return wasAttached ? Math.min(backoff.maxMs, delay + SPREAD_MS * rng()) : delay;
}

/**
 * Keeps the host attached: says Hello, then a heartbeat whenever something changed and at the enroller's rhythm; comes
 * back by itself, to another address if one fails.
 *
 * ```text
 *   detached ──start──► attaching ──Welcome──► attached ──Leave … LEFT──► ended
 *      ▲                    │                      │
 *      └──── backoff ───────┴──── stream broke ────┘      superseded, revoked, refused for good ──► ended
 * ```
 */
export class AttachClient {
  readonly #options: AttachClientOptions;
  #heardAt: Millis | undefined;
  #state: AttachState = { kind: "detached", error: undefined, failures: 0 };
  #readiness: HostReadiness = STARTING;
  /** What the enroller was told last. */
  #told: HostReadiness = STARTING;
  #client: EnrollerClient | undefined;
  #stream: AttachStream | undefined;
  #sequence = 0n;
  #failures = 0;
  #address = 0;
  #cancelBeat: () => void = () => {};
  #cancelRetry: () => void = () => {};
  #heartbeatMs = 3000;
  #leaving: { readonly delete: boolean; readonly done: () => void } | undefined;
  #lastStream = false;

  constructor(options: AttachClientOptions) {
    this.#options = options;
  }

  get state(): AttachState {
    return this.#state;
  }

  /** For how long no enroller has been attached to; 0 while one is, counted from the start if none ever was. */
  get awayMs(): Millis {
    const { scheduler } = this.#options;
    if (this.#state.kind === "attached") return 0;
    return this.#heardAt === undefined ? 0 : scheduler.now() - this.#heardAt;
  }

  /** The address in use, or the next to be tried. */
  get enroller(): string | undefined {
    const { enrollers } = this.#options;
    return "enroller" in this.#state ? this.#state.enroller : enrollers[this.#address % Math.max(1, enrollers.length)];
  }

  start(): void {
    if (this.#stream !== undefined || this.#state.kind === "ended") return;
    this.#heardAt ??= this.#options.scheduler.now();
    this.#connect();
  }

  /** Drops the stream without goodbye, as a hot upgrade does: the new process has taken over. */
  stop(why = "stopped"): void {
    this.#setState({ kind: "ended", why });
    this.#cancelRetry();
    this.#drop();
    this.#leaving?.done();
  }

  /**
   * Keeps the stream that there is, but makes no other: a new process takes over, and the newest attachment wins, so that
   * one of ours, made again, would end it.
   */
  yieldTo(successor: number): void {
    this.#lastStream = true;
    if (this.#stream === undefined) this.stop(`process ${successor} takes over`);
  }

  /** Tells the enroller at once if anything changed. */
  setReadiness(readiness: HostReadiness): void {
    const before = this.#readiness;
    if (
      before.ready === readiness.ready &&
      before.reason === readiness.reason &&
      before.message === readiness.message
    ) {
      return;
    }
    this.#readiness = readiness;
    this.#beat();
  }

  /** The addresses may have changed. */
  touch(): void {
    this.#beat();
  }

  /**
   * Says goodbye. Resolves when clients have let go of the host (or, with `andDelete`, when its workload is deleted),
   * also if the client is stopped meanwhile. Bound it by a timeout of your own: the enroller may be away.
   */
  leave(andDelete: boolean): Promise<void> {
    this.#readiness = { ready: false, reason: "Leaving", message: "the host leaves the mesh" };
    if (this.#state.kind === "ended") return Promise.resolve();
    this.#leaving?.done();
    return new Promise((done) => {
      this.#leaving = { delete: andDelete, done };
      this.#sayLeave();
    });
  }

  #connect(): void {
    const { enrollers, mesh, identity } = this.#options;
    const current = identity.current();
    const address = enrollers[this.#address % Math.max(1, enrollers.length)];
    if (current === undefined || address === undefined) {
      this.#lost(new BootstrapError("no-identity", "there is no identity to attach with"));
      return;
    }
    this.#setState({ kind: "attaching", enroller: address });
    const client = new EnrollerClient(address, {
      serverName: enrollerName(mesh),
      trustAnchorsPem: () => identity.current()?.trustAnchorsPem ?? [],
      certificate: () => identity.current(),
    });
    const stream = client.attach();
    this.#client = client;
    this.#stream = stream;
    const lost = (error?: ServiceError) => {
      if (this.#stream !== stream) return;
      this.#drop();
      this.#lost(error === undefined ? undefined : failureOf(error, address));
    };
    stream.on("data", (message: EnrollerMessage) => {
      if (this.#stream === stream) this.#receive(message, address);
    });
    stream.on("error", lost);
    stream.on("end", () => lost());
    const { workload, machine, hostname, version, scheduler } = this.#options;
    stream.write({
      kind: {
        case: "hello",
        value: {
          version,
          namespace: workload.namespace,
          name: workload.name,
          host: { machine, hostname, wallMs: BigInt(scheduler.wallMs()) },
          state: this.#heartbeat(),
        },
      },
    });
  }

  #receive(message: EnrollerMessage, address: string): void {
    const { handlers, scheduler, log } = this.#options;
    switch (message.kind.case) {
      case "welcome": {
        const { version, heartbeatMs, wallMs, observedAddress } = message.kind.value;
        this.#failures = 0;
        this.#heartbeatMs = Math.min(60_000, Math.max(100, heartbeatMs));
        this.#setState({ kind: "attached", enroller: address, version, skewMs: Number(wallMs) - scheduler.wallMs() });
        log.info({ enroller: address, version }, "attached");
        handlers.observed?.(observedAddress);
        // What changed since Hello was written.
        if (this.#told === this.#readiness) this.#schedule();
        else this.#beat();
        if (this.#leaving !== undefined) this.#sayLeave();
        break;
      }
      case "configuration": {
        const configuration = decodeConfiguration(message.kind.value);
        // One we cannot read, or for somebody else, changes nothing.
        if (configuration === undefined || configuration.workload.name !== this.#options.workload.name) {
          log.error({}, "the enroller sent a configuration that cannot be used; keeping the old one");
        } else {
          handlers.configuration?.(configuration);
        }
        break;
      }
      case "trustAnchors":
        handlers.trustAnchors?.(message.kind.value.roots);
        break;
      case "registration": {
        const { ready, reason, message: text, addresses } = message.kind.value;
        handlers.registration?.({ ready, reason, message: text, addresses });
        break;
      }
      case "order":
        this.#obey(message.kind.value);
        break;
      case undefined:
        // From a later version.
        break;
      default:
        message.kind satisfies never;
    }
  }

  #obey({ kind, message, withinMs }: Order): void {
    const { handlers, log } = this.#options;
    log.info({ order: kind, message }, "order from the enroller");
    switch (kind) {
      case Order_Kind.SHUTDOWN_IDENTITY:
        this.stop(message);
        handlers.shutdownIdentity?.(message);
        break;
      case Order_Kind.SUPERSEDED:
        this.stop(message);
        handlers.superseded?.(message);
        break;
      case Order_Kind.REATTACH:
        if (this.#lastStream) return this.stop(message);
        this.#drop();
        this.#address++;
        this.#setState({ kind: "detached", error: undefined, failures: 0 });
        this.#retryIn(this.#options.scheduler.rng() * 1000);
        break;
      case Order_Kind.RENEW:
        handlers.renew?.(withinMs);
        break;
      case Order_Kind.LEFT: {
        const leaving = this.#leaving;
        this.#leaving = undefined;
        if (leaving?.delete === true) this.stop("left");
        leaving?.done();
        break;
      }
      default:
        // An order from a later version cannot be obeyed.
        break;
    }
  }

  #lost(error: BootstrapError | undefined): void {
    const { handlers, log, scheduler, backoff = BACKOFF } = this.#options;
    if (this.#state.kind === "ended") return;
    if (this.#lastStream) return this.stop(error?.message ?? "the stream ended");
    if (error !== undefined && FINAL.has(error.code)) {
      log.error({ error: error.message, code: error.code }, "the enroller refuses this host");
      this.stop(error.message);
      handlers.refused?.(error);
      return;
    }
    const wasAttached = this.#state.kind === "attached";
    this.#failures++;
    this.#address++;
    this.#setState({ kind: "detached", error, failures: this.#failures });
    log.warn({ error: error?.message ?? "the stream ended", failures: this.#failures }, "not attached; trying again");
    this.#retryIn(returnDelayMs(this.#failures, wasAttached, () => scheduler.rng(), backoff));
  }

  #retryIn(ms: number): void {
    this.#cancelRetry();
    this.#cancelRetry = this.#options.scheduler.after(ms, () => {
      if (this.#state.kind !== "ended") this.#connect();
    });
  }

  #drop(): void {
    this.#cancelBeat();
    const stream = this.#stream;
    this.#stream = undefined;
    // The half-close may still carry a last message out; the channel ends with its streams.
    stream?.end();
    stream?.on("error", () => {});
    this.#client?.close();
    this.#client = undefined;
  }

  #schedule(): void {
    this.#cancelBeat();
    this.#cancelBeat = this.#options.scheduler.after(this.#heartbeatMs, () => this.#beat());
  }

  #beat(): void {
    if (this.#state.kind !== "attached") return;
    this.#stream?.write({ kind: { case: "heartbeat", value: this.#heartbeat() } });
    this.#schedule();
  }

  #sayLeave(): void {
    if (this.#state.kind !== "attached" || this.#leaving === undefined) return;
    this.#stream?.write({ kind: { case: "leave", value: { delete: this.#leaving.delete } } });
  }

  #heartbeat(): MessageInitShape<typeof HeartbeatSchema> {
    this.#told = this.#readiness;
    return { sequence: ++this.#sequence, ...this.#readiness, addresses: [...this.#options.addresses()] };
  }

  #setState(state: AttachState): void {
    if (this.#state.kind === "ended") return;
    if (this.#state.kind === "attached") this.#heardAt = this.#options.scheduler.now();
    this.#state = state;
    this.#options.handlers.state?.(state);
  }
}
