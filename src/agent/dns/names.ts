import type { Clock, Millis } from "../../proxy/core/clock.ts";

/** Where a port of a Service is served; `target` is a full name without the last dot. */
export interface ServiceRecord {
  readonly port: number;
  readonly target: string;
}

/** What the enroller says about a name. */
export interface Resolution {
  /** False: there is no such name. True without addresses or services: it has none. */
  readonly exists: boolean;
  readonly addresses: readonly string[];
  /** Of `_PORT._PROTOCOL.SERVICE.NS.svc.…`. */
  readonly services: readonly ServiceRecord[];
  readonly ttlSeconds: number;
}

export type NameAnswer =
  | {
      readonly kind: "found";
      readonly addresses: readonly string[];
      readonly services: readonly ServiceRecord[];
      readonly ttlSeconds: number;
    }
  | { readonly kind: "none" }
  /** Nobody could be asked, and nothing is remembered. */
  | { readonly kind: "failed" };

export interface NamesOptions {
  /** Asks the enroller; rejects if it does not answer. Bounds its own time. */
  readonly resolve: (name: string) => Promise<Resolution>;
  /** Undefined until the host has joined. */
  readonly clusterDomain: () => string | undefined;
  readonly clock: Clock;
  /** A remembered answer is used for so long after it was last confirmed, while the enroller is away. */
  readonly maxStaleMs: Millis;
  /** What {@link Names.save} gave to an earlier process; undefined if there is nothing. */
  readonly stored?: string | undefined;
}

interface Known {
  readonly answer: Resolution;
  readonly until: Millis;
  /** Unix milliseconds: when the enroller last said so. */
  readonly saidAtMs: number;
}

/** Names remembered; the one unused for longest is forgotten first. A host talks to tens of Services. */
const MAX_NAMES = 4096;
// Each is one call on one connection; a program that asks for names at random must not pile them up.
const MAX_ASKING = 256;
const MAX_TTL_SECONDS = 300;
const NEGATIVE_MS = 5000;
/** After a failure, what is remembered is used at once for so long, instead of making every program wait. */
const AWAY_MS = 2000;
// RFC 8767 §4 recommends 30 s; the cluster's names move faster.
const STALE_TTL_SECONDS = 5;
// `_PORT._PROTOCOL.SERVICE.NS.svc`.
const MAX_LABELS = 5;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * The cluster's names as this host knows them: asked at the enroller once, remembered for their time, and beyond it
 * while the enroller is away. Names that cannot exist are not asked for.
 */
export class Names {
  readonly #options: NamesOptions;
  // Insertion order is order of last use.
  readonly #known = new Map<string, Known>();
  readonly #asking = new Map<string, Promise<NameAnswer>>();
  #awayUntil: Millis = Number.NEGATIVE_INFINITY;
  #changed = false;

  constructor(options: NamesOptions) {
    this.#options = options;
    this.#load(options.stored);
  }

  /** The zone we speak for. */
  get zone(): string | undefined {
    return this.#options.clusterDomain();
  }

  /** Whether a name is the zone's own or beneath it. */
  covers(name: string): boolean {
    const zone = this.zone;
    return zone !== undefined && (name === zone || name.endsWith(`.${zone}`));
  }

  /**
   * @param name - Lower case, without the final dot, and one that {@link covers} accepts.
   * @returns at once where nobody has to be asked. Never rejects.
   */
  lookup(name: string): NameAnswer | Promise<NameAnswer> {
    const within = this.#within(name);
    // `cluster.local`, `svc.cluster.local` and `NS.svc.cluster.local` exist, for there are names beneath them: saying
    // that they do not would deny those too (RFC 8020).
    if (within === "above") return { kind: "found", addresses: [], services: [], ttlSeconds: STALE_TTL_SECONDS };
    if (within === "outside") return { kind: "none" };
    const { clock } = this.#options;
    const now = clock.now();
    const known = this.#known.get(name);
    if (known !== undefined) {
      this.#known.delete(name);
      this.#known.set(name, known);
      if (now < known.until) return answerOf(known.answer, Math.ceil((known.until - now) / 1000));
      if (now < this.#awayUntil && this.#usable(known)) return answerOf(known.answer, STALE_TTL_SECONDS);
    }
    const asking = this.#asking.get(name);
    if (asking !== undefined) return asking;
    if (this.#asking.size >= MAX_ASKING) return this.#remembered(known);
    const answer = this.#ask(name, known).finally(() => this.#asking.delete(name));
    this.#asking.set(name, answer);
    return answer;
  }

  /** Whether {@link save} has anything new to say. */
  get changed(): boolean {
    return this.#changed;
  }

  /** The names that exist, as text for {@link NamesOptions.stored}. */
  save(): string {
    this.#changed = false;
    const names = [...this.#known]
      .filter(([, { answer }]) => answer.exists)
      .map(([name, { answer, saidAtMs }]) => {
        const { addresses, services } = answer;
        return { name, addresses, ...(services.length > 0 && { services }), saidAtMs };
      });
    return JSON.stringify({ format: 1, names });
  }

  async #ask(name: string, known: Known | undefined): Promise<NameAnswer> {
    const { resolve, clock } = this.#options;
    try {
      const answer = await resolve(name);
      const seconds = Math.min(MAX_TTL_SECONDS, Math.max(1, answer.ttlSeconds));
      this.#awayUntil = Number.NEGATIVE_INFINITY;
      this.#keep(name, {
        answer,
        until: clock.now() + (answer.exists ? seconds * 1000 : NEGATIVE_MS),
        saidAtMs: clock.wallMs(),
      });
      return answerOf(answer, seconds);
    } catch {
      this.#awayUntil = clock.now() + AWAY_MS;
      return this.#remembered(known);
    }
  }

  #keep(name: string, known: Known): void {
    const before = this.#known.get(name);
    if (before === undefined || said(before.answer) !== said(known.answer)) this.#changed = true;
    this.#known.delete(name);
    this.#known.set(name, known);
    if (this.#known.size > MAX_NAMES) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
  }

  #remembered(known: Known | undefined): NameAnswer {
    return known !== undefined && this.#usable(known) ? answerOf(known.answer, STALE_TTL_SECONDS) : { kind: "failed" };
  }

  #usable({ answer, saidAtMs }: Known): boolean {
    // That a name does not exist is not worth insisting on.
    return answer.exists && this.#options.clock.wallMs() - saidAtMs < this.#options.maxStaleMs;
  }

  #within(name: string): "above" | "beneath" | "outside" {
    const zone = this.zone ?? "";
    const labels = name === zone ? [] : name.slice(0, -zone.length - 1).split(".");
    const kind = labels.at(-1);
    if (kind === undefined) return "above";
    if (kind !== "svc" || labels.length > MAX_LABELS || !labels.every((label) => LABEL.test(label))) return "outside";
    if (labels.length === MAX_LABELS && !labels.slice(0, 2).every((label) => label.startsWith("_"))) return "outside";
    return labels.length < 3 ? "above" : "beneath";
  }

  /** Whatever cannot be read is as if it had never been stored. */
  #load(text: string | undefined): void {
    if (text === undefined) return;
    try {
      const stored = JSON.parse(text) as { readonly format?: unknown; readonly names?: unknown };
      if (stored.format !== 1 || !Array.isArray(stored.names)) return;
      for (const { name, addresses, services, saidAtMs } of stored.names.slice(0, MAX_NAMES) as readonly StoredName[]) {
        if (typeof name !== "string" || typeof saidAtMs !== "number" || !Array.isArray(addresses)) continue;
        const answer = {
          exists: true,
          addresses: addresses.map(String),
          services: Array.isArray(services) ? services.filter(isRecord) : [],
          ttlSeconds: STALE_TTL_SECONDS,
        };
        this.#known.set(name, { answer, until: Number.NEGATIVE_INFINITY, saidAtMs });
      }
    } catch {
      // A file of another format, or of a disk that lies.
    }
  }
}

interface StoredName {
  readonly name: unknown;
  readonly addresses: unknown;
  readonly services?: unknown;
  readonly saidAtMs: unknown;
}

function isRecord(value: unknown): value is ServiceRecord {
  if (typeof value !== "object" || value === null) return false;
  const { port, target } = value as Readonly<Record<keyof ServiceRecord, unknown>>;
  return typeof port === "number" && typeof target === "string";
}

function said({ exists, addresses, services }: Resolution): string {
  return JSON.stringify([exists, addresses, services.map(({ port, target }) => [port, target])]);
}

function answerOf(answer: Resolution, ttlSeconds: number): NameAnswer {
  const { addresses, services } = answer;
  return answer.exists ? { kind: "found", addresses, services, ttlSeconds } : { kind: "none" };
}
