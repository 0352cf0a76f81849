import type { TapEvent } from "../../proxy/core/messages.ts";
import type { Golden } from "./golden.ts";

/** A moment in the life of an ExternalWorkload. */
export interface Transition {
  readonly name: string;
  /** Seconds after the host was told to join. */
  readonly afterSeconds: number;
  readonly ready: string;
  readonly reason: string;
  readonly identity: string;
  readonly address: string;
}

/** One call that a visitor could have typed, and what the proxies saw of it. */
export interface Call {
  readonly host: string;
  /** As typed. */
  readonly command: string;
  /** The first thing it printed. */
  readonly answer: string;
  /** What left the caller's proxy; absent for bytes that are no HTTP. */
  readonly request: TapEvent | undefined;
}

/** Everything that the demo shows; with `-o json`, all that it prints. */
export interface DemoReport {
  readonly workload: readonly Transition[];
  readonly calls: readonly Call[];
  readonly goldenSeconds: number;
  readonly golden: readonly Golden[];
}
