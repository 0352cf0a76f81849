import { grpcService, inbound } from "../../proto/index.ts";
import type { InboundPolicy } from "../policy/index.ts";
import { type EntryDeps, HubEntry, sameAnswer } from "./entry.ts";
import { decodeInboundPolicy } from "./inbound-policy.ts";
import type { DiscoveryMessage } from "./messages.ts";
import { isInboundPolicy } from "./stored.ts";
import { FAILED_PRECONDITION, type GrpcStream, INVALID_ARGUMENT, Watch } from "./watch.ts";

const { watchPort } = grpcService(inbound.InboundServerPolicies);

// NOT_FOUND is retried: the workload may be on its way into the controller's index. inbound.md §4.5
const TERMINAL: ReadonlySet<number> = new Set([INVALID_ARGUMENT, FAILED_PRECONDITION]);

/** The policy of one port of this host. */
export class InboundEntry extends HubEntry {
  readonly #port: number;
  readonly #watch: Watch<inbound.Server>;
  #policy: InboundPolicy | undefined;

  constructor(port: number, deps: EntryDeps) {
    super({ kind: "inbound", port }, deps);
    this.#port = port;
    this.#watch = new Watch<inbound.Server>(
      {
        open: () => this.#open(),
        opened: () => {},
        message: (message) => this.#received(message),
        refused: (_code, why) => this.#refused(why),
        interrupted: (why) => this.interrupted(why),
      },
      TERMINAL,
      deps,
    );
  }

  // Without an answer the port falls back to the default policy, which may admit more than the last one did.
  protected readonly expires = false;

  override start(): void {
    const stored = this.deps.cache.load(this.key, isInboundPolicy);
    if (stored !== undefined) {
      this.#policy = stored.value;
      this.publish("stored", stored.confirmedAtMs, this.snapshot());
    }
    this.#watch.start();
  }

  override stop(): void {
    this.#watch.stop();
  }

  override retryNow(): void {
    this.#watch.retryNow();
  }

  override connected(): boolean {
    return this.#watch.state === "live";
  }

  protected override snapshot(): readonly DiscoveryMessage[] {
    return this.#policy === undefined ? [] : [{ type: "discovery.inbound", key: this.key, value: this.#policy }];
  }

  // Said at once: a worker waits for it before it judges a connection, and must not wait for the control plane.
  protected override unanswered(): readonly DiscoveryMessage[] {
    return [{ type: "discovery.failed", key: this.key, failure: "unreachable", why: "no answer yet" }];
  }

  #open(): GrpcStream<inbound.Server> | undefined {
    const request = { workload: this.deps.policyWorkload(), port: this.#port };
    return this.deps
      .policy()
      ?.makeServerStreamRequest(watchPort.path, watchPort.requestSerialize, watchPort.responseDeserialize, request);
  }

  #received(message: inbound.Server): void {
    const { policy, invalid } = decodeInboundPolicy(message);
    if (invalid !== undefined) {
      this.deps.log.warn("inbound policy makes no sense: nobody is authorized", { port: this.#port, why: invalid });
    }
    // A stream that was opened again repeats itself: that is no update, and resets no rate limits.
    const changed = !sameAnswer(policy, this.#policy);
    this.#policy = policy;
    if (changed || this.state !== "ready") this.publish("live", this.deps.clock.wallMs(), this.snapshot());
    else this.confirm();
    this.deps.cache.save(this.key, () => this.#policy, changed);
  }

  #refused(why: string): void {
    if (this.#policy === undefined) this.fail("refused", why);
    else this.interrupted(why);
  }
}
