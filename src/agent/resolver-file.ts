import type { ResolverFile } from "../bootstrap/resolver/index.ts";
import type { Config } from "./config.ts";

/**
 * What root should tell the host's resolver; undefined where the agent knows of no cluster.
 * @param served - Whether systemd passed the stub's socket in: a resolver that is sent to nobody only waits.
 */
export function resolverFile(
  config: Config,
  clusterDomain: string | undefined,
  served: boolean,
): ResolverFile | undefined {
  if (clusterDomain === undefined) return undefined;
  return { format: 1, zone: clusterDomain.toLowerCase(), wiring: served ? config["dns.wiring"] : "none" };
}
