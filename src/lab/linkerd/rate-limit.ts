import type { inbound } from "../../proto/index.ts";
import { type Cluster, serviceAccountIdentity } from "./cluster.ts";
import type { Init } from "./message.ts";
import { inboundMetadata } from "./metadata.ts";
import type { RateLimitPolicy, Server } from "./objects.ts";
import { KINDS } from "./store.ts";
import { byAge } from "./workload.ts";

export type RateLimitMessage = Init<typeof inbound.HttpLocalRateLimitSchema>;

/** The oldest rate limit that targets the Server. */
export function rateLimit(cluster: Cluster, server: Server): RateLimitMessage | undefined {
  const { name, namespace = "" } = server.metadata;
  const policy = cluster.store
    .list<RateLimitPolicy>(KINDS.rateLimits, namespace)
    .filter(({ spec }) => spec?.targetRef?.kind === "Server" && spec.targetRef.name === name)
    .toSorted(byAge)[0];
  if (policy === undefined) return undefined;
  const limit = (of: { readonly requestsPerSecond?: number }) => ({ requestsPerSecond: of.requestsPerSecond ?? 0 });
  const { total, identity, overrides = [] } = policy.spec ?? {};
  return {
    metadata: inboundMetadata(policy),
    ...(total && { total: limit(total) }),
    ...(identity && { identity: limit(identity) }),
    overrides: overrides.map((override) => ({
      limit: limit(override),
      clients: {
        identities: (override.clientRefs ?? [])
          .filter(({ kind }) => kind === "ServiceAccount")
          .map((ref) => ({ name: serviceAccountIdentity(cluster, ref.namespace ?? namespace, ref.name) })),
      },
    })),
  };
}
