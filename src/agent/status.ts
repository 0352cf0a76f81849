import type { EntryStatus } from "../proxy/discovery/index.ts";

/** Where the agent is in its life. */
export type LifecycleState = "starting" | "joining" | "ready" | "draining" | "stopped";

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
        readonly renewalProblem: string | undefined;
      }
    | undefined;
  readonly registration: { readonly attached: boolean; readonly ready: boolean; readonly why: string } | undefined;
  readonly workers: { readonly ready: number; readonly count: number; readonly restarts: number };
  readonly interception: { readonly v4: boolean; readonly v6: boolean; readonly why: string };
  readonly discovery: readonly EntryStatus[];
  readonly uptimeMs: number;
}
