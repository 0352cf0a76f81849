import type { EntryStatus } from "../proxy/discovery/index.ts";

/** Where the agent is in its life. */
export type LifecycleState = "starting" | "joining" | "ready" | "expired" | "draining" | "stopped";

/** One screen about a running agent. Plain data: `status -o json` prints it as it is. */
export interface AgentStatus {
  readonly version: string;
  readonly state: LifecycleState;
  readonly workload: { readonly namespace: string; readonly name: string } | undefined;
  readonly identity:
    | {
        readonly name: string;
        readonly uri: string | undefined;
        /** RFC 3339. */
        readonly notAfter: string;
        /** Negative once it has run out. */
        readonly leftMs: number;
        /** Where it comes from: the enroller, files, or a SPIFFE Workload API. */
        readonly source: string;
        readonly renewalProblem: string | undefined;
        /** Unix milliseconds; undefined where somebody else renews. */
        readonly nextRenewalAtMs: number | undefined;
      }
    | undefined;
  /** Why there is no identity, or why a join string was not used. */
  readonly identityProblem: string | undefined;
  readonly registration:
    | {
        readonly attached: boolean;
        readonly ready: boolean;
        readonly why: string;
        /** For how long no enroller has been heard; 0 while attached. */
        readonly awayMs: number;
        /** Under which addresses the cluster knows this host, and how the host came to name them. */
        readonly addresses: readonly string[];
        readonly addressWhy: string;
      }
    | undefined;
  readonly workers: { readonly ready: number; readonly count: number; readonly restarts: number };
  readonly interception: { readonly v4: boolean; readonly v6: boolean; readonly why: string };
  readonly discovery: readonly EntryStatus[];
  readonly uptimeMs: number;
}
