import { destination, grpcService, outbound } from "../../proto/index.ts";
import { cidrContains, formatSocketAddress, parseIp } from "../core/address.ts";
import type { OutboundPolicy, OutboundState, Profile } from "../policy/index.ts";
import { DOUBT_MIN_MS, Doubt } from "./doubt.ts";
import { type EntryDeps, HubEntry, sameAnswer } from "./entry.ts";
import type { DiscoveryMessage } from "./messages.ts";
import { encodeIp } from "./net.ts";
import { decodeOutboundPolicy } from "./outbound-policy.ts";
import { combineOutbound } from "./outbound-state.ts";
import { decodeProfile } from "./profile.ts";
import { isStoredOutbound } from "./stored.ts";
import { FAILED_PRECONDITION, type GrpcStream, INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED, Watch } from "./watch.ts";

const { getProfile } = grpcService(destination.Destination);
const { watch: watchPolicy } = grpcService(outbound.OutboundPolicies);

const PROFILE_TERMINAL: ReadonlySet<number> = new Set([INVALID_ARGUMENT, FAILED_PRECONDITION]);
const POLICY_TERMINAL: ReadonlySet<number> = new Set([INVALID_ARGUMENT, FAILED_PRECONDITION, NOT_FOUND, UNIMPLEMENTED]);

// As long as Linkerd's proxies give a stream for its first word. The controller has none for a ServiceProfile that it
// cannot translate, and a Service must not become slow at every first connection for that.
const PROFILE_PATIENCE_MS = 3_000;

/** The two answers; null: the controller says that there is none; undefined: it has not answered. */
interface Answers {
  policy: OutboundPolicy | null | undefined;
  profile: Profile | null | undefined;
}

/** Policy and profile of one original destination. */
export class OutboundEntry extends HubEntry {
  readonly #ip: string;
  readonly #port: number;
  readonly #policyWatch: Watch<outbound.OutboundPolicy>;
  readonly #profileWatch: Watch<destination.DestinationProfile> | undefined;
  #answers: Answers = { policy: undefined, profile: undefined };
  /** The policy, or the profile, is what the control plane said in this run. */
  #livePolicy = false;
  #liveProfile = false;
  #storedAtMs = 0;
  #current: OutboundState | undefined;
  #callOff: (() => void) | undefined;
  /** Ends the wait for a profile that a policy need not wait for. */
  #hurry: (() => void) | undefined;
  readonly #doubt = new Doubt();

  constructor(ip: string, port: number, deps: EntryDeps) {
    super({ kind: "outbound", ip, port }, deps);
    this.#ip = ip;
    this.#port = port;
    this.#policyWatch = new Watch<outbound.OutboundPolicy>(
      {
        open: () => this.#openPolicy(),
        opened: () => {},
        message: (message) => this.#policyReceived(message),
        refused: (code, why) => this.#policyRefused(code, why),
        interrupted: (why) => this.interrupted(why),
      },
      POLICY_TERMINAL,
      deps,
    );
    if (!this.#hasProfile()) return;
    this.#profileWatch = new Watch<destination.DestinationProfile>(
      {
        open: () => this.#openProfile(),
        opened: () => {},
        message: (message) => this.#profileReceived(decodeProfile(message)),
        // Any terminal error means that there is none, unless there was one.
        refused: () => {
          if (!this.#liveProfile) this.#profileReceived(null);
        },
        interrupted: (why) => this.interrupted(why),
      },
      PROFILE_TERMINAL,
      deps,
    );
  }

  protected readonly expires = true;

  override start(): void {
    const stored = this.deps.cache.load(this.key, isStoredOutbound);
    if (stored !== undefined) {
      this.#answers = { policy: stored.value.policy, profile: stored.value.profile };
      this.#storedAtMs = stored.confirmedAtMs;
      this.#combine();
    }
    if (this.#profileWatch === undefined) {
      this.#answers.profile = null;
      this.#liveProfile = true;
    }
    this.#policyWatch.start();
    this.#profileWatch?.start();
    if (this.state === "pending") this.#callOff = this.deps.timers.after(this.deps.timeoutMs, () => this.#timedOut());
  }

  override stop(): void {
    this.withdraw();
    this.#callOff?.();
    this.#hurry?.();
    this.#policyWatch.stop();
    this.#profileWatch?.stop();
  }

  override retryNow(): void {
    this.#policyWatch.retryNow();
    this.#profileWatch?.retryNow();
  }

  /**
   * Where the answer leads nobody answers, or somebody else. A stream may have fallen silent although it is open, and
   * one that was refused is not heard at all: both are asked again.
   */
  override suspect(): void {
    const doubtful = [this.#policyWatch, this.#profileWatch].filter(
      (watch) => watch !== undefined && (watch.state === "over" || watch.openForMs >= DOUBT_MIN_MS),
    );
    if (doubtful.length === 0 || !this.#doubt.cast(this.deps.clock.now())) return;
    this.deps.log.info("a destination does not work as discovery has it: asking again", { target: this.key });
    for (const watch of doubtful) watch?.reopen();
  }

  /** For `mesh-agent explain`. */
  get current(): OutboundState | undefined {
    return this.#current;
  }

  override connected(): boolean {
    return heard(this.#policyWatch) && (this.#profileWatch === undefined || heard(this.#profileWatch));
  }

  protected override snapshot(): readonly DiscoveryMessage[] {
    return this.#current === undefined ? [] : [{ type: "discovery.outbound", key: this.key, value: this.#current }];
  }

  #hasProfile(): boolean {
    const ip = parseIp(this.#ip);
    return ip !== undefined && this.deps.profileNetworks().some((network) => cidrContains(network, ip));
  }

  #openPolicy(): GrpcStream<outbound.OutboundPolicy> | undefined {
    const ip = parseIp(this.#ip);
    const request = {
      sourceWorkload: this.deps.policyWorkload(),
      target: { case: "addr" as const, value: { ...(ip && { ip: encodeIp(ip) }), port: this.#port } },
    };
    const { path, requestSerialize, responseDeserialize } = watchPolicy;
    return this.deps.policy()?.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
  }

  #openProfile(): GrpcStream<destination.DestinationProfile> | undefined {
    const request = {
      scheme: "",
      path: formatSocketAddress({ ip: this.#ip, port: this.#port }),
      contextToken: this.deps.contextToken(),
    };
    const { path, requestSerialize, responseDeserialize } = getProfile;
    return this.deps.destination()?.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
  }

  #policyReceived(message: outbound.OutboundPolicy): void {
    const { policy, invalid } = decodeOutboundPolicy(message);
    if (invalid !== undefined) {
      this.deps.log.warn("outbound policy makes no sense: requests will fail", { target: this.key, why: invalid });
    }
    this.#livePolicy = true;
    this.#answers.policy = policy;
    this.#combine();
    if (this.state === "pending") this.#hurry ??= this.deps.timers.after(PROFILE_PATIENCE_MS, () => this.#goAhead());
  }

  #policyRefused(code: number, why: string): void {
    // After a first answer the last one stays.
    if (this.#livePolicy) return;
    this.#livePolicy = true;
    if (code === NOT_FOUND || code === UNIMPLEMENTED) {
      this.#answers.policy = null;
      this.#combine();
      return;
    }
    this.#callOff?.();
    this.deps.cache.remove(this.key);
    this.fail("refused", why);
  }

  #profileReceived(profile: Profile | null): void {
    this.#liveProfile = true;
    this.#answers.profile = profile;
    this.#combine();
  }

  #combine(): void {
    const { policy, profile } = this.#answers;
    if (policy === undefined || profile === undefined) return;
    this.#callOff?.();
    this.#hurry?.();
    const changed = this.#put(policy ?? undefined, profile ?? undefined);
    // Half an old answer and half a new one are kept as an answer only when both have been heard.
    if (this.#livePolicy && this.#liveProfile) this.deps.cache.save(this.key, () => this.#answers, changed);
  }

  #put(policy: OutboundPolicy | undefined, profile: Profile | undefined): boolean {
    const current = combineOutbound(this.#ip, this.#port, policy, profile);
    const changed = !sameAnswer(current, this.#current);
    if (changed) this.#doubt.justified();
    this.#current = current;
    if (!this.#livePolicy) this.offer(this.#storedAtMs);
    else if (changed || this.state !== "ready") this.publish("live", this.deps.clock.wallMs(), this.snapshot());
    else this.confirm();
    return changed;
  }

  /** A policy says on its own how to reach a Service; without one, plaintext to an unknown pod would be a guess. */
  #goAhead(): boolean {
    const { policy, profile } = this.#answers;
    if (policy === undefined || policy === null || profile !== undefined) return false;
    this.#callOff?.();
    if (this.state === "pending") this.#put(policy, undefined);
    return true;
  }

  /** Nothing was stored, and the control plane did not answer both questions in time. */
  #timedOut(): void {
    if (this.state !== "pending" || this.#goAhead()) return;
    this.fail("unreachable", `no answer from the control plane within ${this.deps.timeoutMs} ms`);
  }
}

/** A watch that was refused has said all it will ever say. */
function heard(watch: Watch<unknown>): boolean {
  return watch.state === "live" || watch.state === "over";
}
