import { networkInterfaces } from "node:os";
import type { Millis } from "../../proxy/core/clock.ts";
import { every, type Scheduler } from "../control/index.ts";
import { routeSource } from "./address.ts";

export interface AddressWatchOptions {
  /** What the operator says; wins over everything. */
  readonly configured: readonly string[];
  /** The enroller in use, or the first to try: `host:port`. */
  readonly enroller: () => string | undefined;
  readonly scheduler: Scheduler;
  /** The address is another one now. */
  readonly changed: () => void;
  /** For tests. */
  readonly sourceOf?: (enroller: string) => Promise<string | undefined>;
  readonly own?: () => readonly string[];
}

// A lease of DHCP, a cable, a VPN: they change seldom, and a lookup of the enroller's name costs a question.
const LOOK_MS = 10_000;

/**
 * Under which address this host is registered. A host with several has one that the cluster certainly reaches: the one
 * that the enroller's answers come back to. That is the source of the route to it, looked at again and again.
 */
export class AddressWatch {
  readonly #options: AddressWatchOptions;
  #source: string | undefined;
  #observed: string | undefined;
  #stop: () => void = () => {};

  constructor(options: AddressWatchOptions) {
    this.#options = options;
  }

  /** Looks for the first time; resolves when that is done, or after `patienceMs`: a resolver may be slow. */
  async start(patienceMs: Millis = 2000): Promise<void> {
    const { configured, scheduler } = this.#options;
    if (configured.length > 0) return;
    this.#stop = every(scheduler, LOOK_MS, () => void this.look());
    let cancel = (): void => {};
    const limit = new Promise<void>((resolve) => {
      cancel = scheduler.after(patienceMs, resolve);
    });
    await Promise.race([this.look(), limit]);
    cancel();
  }

  stop(): void {
    this.#stop();
  }

  /** What to register; empty while it is not known: the enroller then takes what it sees. */
  addresses(): readonly string[] {
    const { configured } = this.#options;
    if (configured.length > 0) return configured;
    return this.#source === undefined ? [] : [this.#source];
  }

  /** What the enroller saw the stream come from. */
  observed(address: string): void {
    this.#observed = address === "" ? undefined : address;
  }

  /** How the address came about, as a sentence for the operator. */
  why(): string {
    const { configured, enroller } = this.#options;
    const own = (this.#options.own ?? hostAddresses)();
    const source = this.#source;
    const seen = this.#observed;
    const translated = seen !== undefined && !own.includes(seen) && !configured.includes(seen);
    const hint = translated
      ? `; the enroller sees ${seen}, which this host does not have: something in between translates addresses`
      : "";
    if (configured.length > 0) return `set in workload.addresses${hint}`;
    if (source === undefined) return `no route to the enroller is known; it takes what it sees${hint}`;
    const others = own.filter((address) => address !== source);
    const rest = others.length === 0 ? "" : `, not ${others.slice(0, 4).join(", ")}`;
    const remedy = translated ? "; if pods cannot reach this host, set workload.addresses" : "";
    return `source of the route to the enroller ${enroller() ?? ""}${rest}${hint}${remedy}`;
  }

  /** Looks now. */
  async look(): Promise<void> {
    const enroller = this.#options.enroller();
    if (enroller === undefined) return;
    const source = await (this.#options.sourceOf ?? routeSource)(enroller);
    // No route for a moment: the address that was good is the best guess for when it comes back.
    if (source === undefined || source === this.#source) return;
    this.#source = source;
    this.#options.changed();
  }
}

/** Not loopback, not link-local: what peers could use. */
function hostAddresses(): readonly string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !/^(?:169\.254\.|fe[89ab])/i.test(address))
    .map(({ address }) => address);
}
