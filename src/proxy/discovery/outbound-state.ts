import { plainEndpoint } from "../core/endpoint.ts";
import {
  type Backend,
  type ConnectionRoute,
  type Distribution,
  fallbackPolicy,
  forwardPolicy,
  type LoadConfig,
  makeBackend,
  NO_TIMEOUTS,
  type OutboundHttp,
  type OutboundPolicy,
  type OutboundRoute,
  type OutboundState,
  onlyBackend,
  type Profile,
  type ProfileRoute,
  type ResourceRef,
} from "../policy/index.ts";

// What the controller sends for Services, and Linkerd uses for profiles.
const PROFILE_LOAD: LoadConfig = { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 };

// What no route takes goes the same way.
const REMAINDER: ProfileRoute = {
  condition: { kind: "all", of: [] },
  classes: [],
  labels: {},
  retryable: false,
  timeoutMs: undefined,
};

/**
 * Combines the two answers about an original destination.
 *
 * @param given - The policy; undefined: the policy controller does not know the address.
 * @param profile - Undefined: none, or not to be had.
 * @see outbound.md §1.4, §1.7. Unlike Linkerd, a ServiceProfile that appears later takes over at once.
 */
export function combineOutbound(
  ip: string,
  port: number,
  given: OutboundPolicy | undefined,
  profile: Profile | undefined,
): OutboundState {
  const policy = given ?? withoutPolicy(ip, port, profile);
  if (profile === undefined) return { policy, profile };
  if (profile.opaque) return { policy: makeOpaque(ip, port, policy, profile), profile };
  return { policy: routeByProfile(port, policy, profile), profile };
}

/** The policy controller knows no such address, as for a pod's: exactly this endpoint, with what the profile says of it. */
function withoutPolicy(ip: string, port: number, profile: Profile | undefined): OutboundPolicy {
  if (profile === undefined) return fallbackPolicy(ip, port);
  return forwardPolicy("endpoint", profile.endpoint ?? plainEndpoint({ ip, port }));
}

function makeOpaque(ip: string, port: number, policy: OutboundPolicy, profile: Profile): OutboundPolicy {
  const opaque = opaqueByTargets(port, policy, profile) ?? policy.opaque ?? opaqueByName(ip, port, policy, profile);
  return { ...policy, kind: "opaque", http1: undefined, http2: undefined, opaque, tls: [] };
}

/**
 * A Service port that is both HTTP by `appProtocol` and opaque by annotation has no opaque part in its policy. Linkerd
 * panics; we balance on the Service's name, or forward.
 */
function opaqueByName(ip: string, port: number, policy: OutboundPolicy, profile: Profile): ConnectionRoute {
  const endpoint = profile.endpoint ?? plainEndpoint({ ip, port });
  const backend =
    profile.logicalName === undefined
      ? makeBackend(policy.ref, policy.ref, { kind: "forward", endpoint }, undefined)
      : balancer(policy.ref, policy.ref, `${profile.logicalName}:${port}`);
  return { ref: policy.ref, snis: [], filters: [], distribution: onlyBackend(backend) };
}

function opaqueByTargets(port: number, policy: OutboundPolicy, profile: Profile): ConnectionRoute | undefined {
  if (profile.logicalName === undefined || profile.targets.length === 0) return undefined;
  return { ref: policy.ref, snis: [], filters: [], distribution: distribute(port, policy.ref, profile) };
}

/** A ServiceProfile with routes or targets replaces all routing of the policy, and with it timeouts and breakers. */
function routeByProfile(port: number, policy: OutboundPolicy, profile: Profile): OutboundPolicy {
  const { logicalName, routes, targets } = profile;
  if (logicalName === undefined || (routes.length === 0 && targets.length === 0)) return policy;
  const http = profileHttp(port, logicalName, policy.ref, profile);
  return {
    ...policy,
    http1: policy.http1 && http,
    http2: policy.http2 && http,
    opaque: policy.opaque && (opaqueByTargets(port, policy, profile) ?? policy.opaque),
  };
}

function profileHttp(port: number, logicalName: string, ref: ResourceRef, profile: Profile): OutboundHttp {
  const distribution: Distribution = distribute(port, ref, profile);
  const routeOf = (route: ProfileRoute): OutboundRoute => ({
    ref,
    hosts: [],
    rules: [
      {
        matches: [],
        filters: [],
        distribution,
        timeouts: { ...NO_TIMEOUTS, headersMs: route.timeoutMs },
        retry: undefined,
        budgetedRetry: route.retryable && profile.retryBudget !== undefined,
        classify: { kind: "profile", classes: route.classes },
        allowRequestHeaders: false,
      },
    ],
    condition: route.condition,
    labels: route.labels,
  });
  const routes = [...profile.routes, REMAINDER].map(routeOf);
  return {
    select: "first",
    routes,
    failureAccrual: undefined,
    retryBudget: profile.retryBudget,
    canonical: `${logicalName}:${port}`,
  };
}

function distribute<F>(port: number, parent: ResourceRef, profile: Profile): Distribution<F> {
  if (profile.targets.length === 0) return onlyBackend(balancer(parent, parent, `${profile.logicalName}:${port}`));
  return {
    kind: "random-available",
    backends: profile.targets.map(({ path, weight, ref }) => ({
      backend: balancer(parent, ref ?? parent, path),
      weight,
      filters: [],
    })),
  };
}

function balancer(parent: ResourceRef, ref: ResourceRef, path: string): Backend {
  return makeBackend(parent, ref, { kind: "balancer", path, load: PROFILE_LOAD }, undefined);
}
