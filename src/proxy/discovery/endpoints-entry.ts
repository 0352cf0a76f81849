import { destination, grpcService } from "../../proto/index.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { DOUBT_MIN_MS, Doubt } from "./doubt.ts";
import { type EndpointsChange, EndpointTable } from "./endpoints.ts";
import { type EntryDeps, type EntryStatus, HubEntry } from "./entry.ts";
import { splitUpdate } from "./large-update.ts";
import type { DiscoveryMessage } from "./messages.ts";
import { CHUNK } from "./paced.ts";
import { isEndpoints } from "./stored.ts";
import { FAILED_PRECONDITION, type GrpcStream, INVALID_ARGUMENT, Watch } from "./watch.ts";

const { get } = grpcService(destination.Destination);

const TERMINAL: ReadonlySet<number> = new Set([INVALID_ARGUMENT, FAILED_PRECONDITION]);

// A Service without endpoints says nothing at all. Linkerd hangs up after 3 s and asks again up to a minute later; we
// leave the question open longer, and a server that hangs is found out by the channel's keep-alive.
const INITIAL_MS = 30_000;

/** One message as it came: decoded, or in parts that are decoded one by one. */
type Received = destination.Update | readonly Buffer[];

function deserialize(bytes: Buffer): Received {
  return splitUpdate(bytes) ?? get.responseDeserialize(bytes);
}

type Waiting =
  | { readonly part: Buffer; readonly last: boolean }
  | { readonly part: undefined; readonly update: destination.Update };

/** The endpoints behind one balancer. */
export class EndpointsEntry extends HubEntry {
  readonly #path: string;
  readonly #watch: Watch<Received>;
  #table = new EndpointTable();
  /** Parts of long messages, and what came after them, in order. */
  #waiting: Waiting[] = [];
  #callOff: (() => void) | undefined;
  readonly #doubt = new Doubt();

  constructor(path: string, deps: EntryDeps) {
    super({ kind: "endpoints", path }, deps);
    this.#path = path;
    this.#watch = new Watch<Received>(
      {
        open: () => this.#open(),
        opened: () => {
          this.#forgetParts();
          this.#table.reconnected();
        },
        message: (message) => this.#received(message),
        refused: (_code, why) => {
          deps.cache.remove(this.key);
          this.fail("refused", why);
        },
        interrupted: (why) => this.interrupted(why),
      },
      TERMINAL,
      { ...deps, limits: deps.limits && { ...deps.limits, initialMs: Math.max(deps.limits.initialMs, INITIAL_MS) } },
    );
  }

  protected readonly expires = true;

  override start(): void {
    const stored = this.deps.cache.load(this.key, isEndpoints);
    if (stored !== undefined) {
      this.#table = new EndpointTable(stored.value);
      this.offer(stored.confirmedAtMs);
    }
    this.#watch.start();
  }

  override stop(): void {
    this.withdraw();
    this.#forgetParts();
    this.#watch.stop();
  }

  override retryNow(): void {
    this.#watch.retryNow();
  }

  override status(wallMs: number): EntryStatus {
    return { ...super.status(wallMs), endpoints: this.#table.endpoints.size };
  }

  /**
   * The endpoints that are named do not work. The stream may have fallen silent although it is open (Linkerd's bug
   * 15271): asked again on a new one, the control plane says all that it knows.
   */
  override suspect(): void {
    if (this.#watch.openForMs < DOUBT_MIN_MS || !this.#doubt.cast(this.deps.clock.now())) return;
    this.deps.log.info("endpoints do not work that discovery still names: asking again", { target: this.key });
    this.#watch.reopen();
  }

  /** For `mesh-agent endpoints`. */
  get endpoints(): ReadonlyMap<string, Endpoint> {
    return this.#table.endpoints;
  }

  override connected(): boolean {
    return this.#watch.state === "live";
  }

  protected override snapshot(): readonly DiscoveryMessage[] {
    return this.#messages({ add: [...this.#table.endpoints.values()], remove: [] }, true);
  }

  #open(): GrpcStream<Received> | undefined {
    const request = { scheme: "", path: this.#path, contextToken: this.deps.contextToken() };
    return this.deps.destination()?.makeServerStreamRequest(get.path, get.requestSerialize, deserialize, request);
  }

  #received(message: Received): void {
    if ("length" in message)
      message.forEach((part, i) => void this.#waiting.push({ part, last: i === message.length - 1 }));
    else if (this.#waiting.length > 0) this.#waiting.push({ part: undefined, update: message });
    else return this.#apply(this.#table.apply(message));
    this.#callOff ??= this.deps.timers.after(0, () => this.#takeOne());
  }

  /** One part per turn of the loop: in between, others get theirs. */
  #takeOne(): void {
    const next = this.#waiting.shift();
    this.#callOff = this.#waiting.length > 0 ? this.deps.timers.after(0, () => this.#takeOne()) : undefined;
    if (next === undefined) return;
    if (next.part === undefined) this.#apply(this.#table.apply(next.update));
    else this.#apply(this.#table.applyPart(get.responseDeserialize(next.part), next.last));
  }

  #forgetParts(): void {
    this.#callOff?.();
    this.#callOff = undefined;
    this.#waiting = [];
  }

  #apply(change: EndpointsChange | undefined): void {
    // Not even a first message: a Service without endpoints says nothing at all, or an empty `add`.
    if (change === undefined) return;
    const changed = change.add.length > 0 || change.remove.length > 0;
    if (changed) this.#doubt.justified();
    if (this.state !== "ready") this.publish("live", this.deps.clock.wallMs(), this.snapshot());
    else if (changed) this.publish("live", this.deps.clock.wallMs(), this.#messages(change, false));
    else this.confirm();
    this.deps.cache.save(this.key, () => [...this.#table.endpoints.values()], changed);
  }

  /** In parts; new ones first, so that a renewed set never runs empty on the way. */
  #messages({ add, remove }: EndpointsChange, reset: boolean): DiscoveryMessage[] {
    const { key } = this;
    const messages: DiscoveryMessage[] = [];
    const say = (more: readonly Endpoint[], gone: readonly string[]) => {
      const first = reset && messages.length === 0;
      messages.push({ type: "discovery.endpoints", key, reset: first, add: more, remove: gone });
    };
    for (let i = 0; i < add.length; i += CHUNK) say(add.slice(i, i + CHUNK), []);
    for (let i = 0; i < remove.length; i += CHUNK) say([], remove.slice(i, i + CHUNK));
    if (messages.length === 0) say([], []);
    return messages;
  }
}
