import type { Cidr } from "../core/address.ts";
import { type Endpoint, plainEndpoint } from "../core/endpoint.ts";
import type {
  Authentication,
  Authorization,
  Backend,
  ClassifyRule,
  ConnectionRoute,
  Dispatch,
  Distribution,
  FailureAccrual,
  Filter,
  InboundPolicy,
  InboundRoute,
  OutboundHttp,
  OutboundPolicy,
  OutboundRoute,
  OutboundRule,
  ResourceRef,
  Timeouts,
} from "./model.ts";

/** The names of `inbound.defaultPolicy`, which are Linkerd's. */
export const DEFAULT_POLICIES = [
  "all-unauthenticated",
  "all-authenticated",
  "cluster-unauthenticated",
  "cluster-authenticated",
  "audit",
  "deny",
] as const;

export type DefaultPolicyName = (typeof DEFAULT_POLICIES)[number];

/** A reference to something that no Kubernetes resource stands for; prints as `default.<name>`. */
export function defaultRef(name: string): ResourceRef {
  return { group: "", kind: "default", name, namespace: "", section: "", port: 0 };
}

const EVERYWHERE: readonly Cidr[] = [
  { version: 4, words: [0], prefix: 0 },
  { version: 6, words: [0, 0, 0, 0], prefix: 0 },
];

const LOOPBACK: readonly Cidr[] = [
  { version: 4, words: [0x7f000001], prefix: 32 },
  { version: 6, words: [0, 0, 0, 1], prefix: 128 },
];

function authorizationOf(name: string, nets: readonly Cidr[], authentication: Authentication): Authorization {
  return { ref: defaultRef(name), networks: nets.map((net) => ({ net, except: [] })), authentication };
}

/**
 * Appended to every policy of the control plane: 127.0.0.1 and ::1, exactly these, need no authentication. Policies
 * from our own configuration do not have it.
 */
export const LOOPBACK_AUTHORIZATION: Authorization = authorizationOf("localhost", LOOPBACK, { kind: "none" });

/** One route for every request, without authorizations of its own. */
export const CATCH_ALL_ROUTE: InboundRoute = {
  ref: defaultRef("default"),
  hosts: [],
  authorizations: [],
  rules: [{ matches: [], filters: [] }],
};

// What the suffix `*` is: every DNS identity, and no SPIFFE ID.
const ANY_IDENTITY: Authentication = { kind: "identities", identities: [], suffixes: [""] };

/**
 * The policy of a port about which the control plane has not spoken.
 *
 * @param opaque - The port is one of those configured as opaque: same authorizations, no detection.
 * @param clusterNetworks - For `cluster-*`; with none, these admit nobody.
 * @see inbound.md §4.4
 */
export function defaultInboundPolicy(
  name: DefaultPolicyName,
  options: { readonly detectTimeoutMs: number; readonly clusterNetworks: readonly Cidr[]; readonly opaque?: boolean },
): InboundPolicy {
  const authorizations = defaultAuthorizations(name, options.clusterNetworks);
  return {
    source: "default",
    ref: defaultRef(name),
    protocol:
      name === "deny" || options.opaque === true
        ? { kind: "opaque" }
        : { kind: "detect", timeoutMs: options.detectTimeoutMs, routes: [CATCH_ALL_ROUTE], rateLimits: undefined },
    authorizations,
  };
}

function defaultAuthorizations(name: DefaultPolicyName, clusterNetworks: readonly Cidr[]): readonly Authorization[] {
  switch (name) {
    case "all-unauthenticated":
    case "audit":
      return [authorizationOf(name, EVERYWHERE, { kind: "none" })];
    case "all-authenticated":
      return [authorizationOf(name, EVERYWHERE, ANY_IDENTITY)];
    case "cluster-unauthenticated":
      return [authorizationOf(name, clusterNetworks, { kind: "none" })];
    case "cluster-authenticated":
      return [authorizationOf(name, clusterNetworks, ANY_IDENTITY)];
    case "deny":
      return [];
    default:
      return name satisfies never;
  }
}

/** Whether requests that an authorization lets through are to be logged: the default named `audit`. */
export function isAudit(authorization: Authorization): boolean {
  return authorization.ref.kind === "default" && authorization.ref.name === "audit";
}

/** In place of a policy that makes no sense: nobody is authorized, so TCP is closed and HTTP hears 403. */
export const INVALID_INBOUND: InboundPolicy = {
  source: "invalid",
  ref: defaultRef("invalid"),
  protocol: { kind: "detect", timeoutMs: 10_000, routes: [CATCH_ALL_ROUTE], rateLimits: undefined },
  authorizations: [],
};

export const NO_TIMEOUTS: Timeouts = {
  requestMs: undefined,
  responseMs: undefined,
  idleMs: undefined,
  headersMs: undefined,
};

const HTTP_RULE: ClassifyRule = { kind: "http" };

/**
 * Names a backend so that two that behave alike have one key, across updates and routes of one policy.
 * @param parent - The policy's ref: two Services never share a balancer.
 */
export function makeBackend(
  parent: ResourceRef,
  ref: ResourceRef,
  dispatch: Dispatch,
  failureAccrual: FailureAccrual | undefined,
): Backend {
  return {
    key: JSON.stringify([parent, ref, dispatch, failureAccrual ?? null]),
    parent,
    ref,
    dispatch,
    failureAccrual,
  };
}

export function onlyBackend<F>(backend: Backend): Distribution<F> {
  return { kind: "first-available", backends: [{ backend, weight: 1, filters: [] }] };
}

/** A route for every request to one distribution. */
export function catchAllOutbound(
  ref: ResourceRef,
  distribution: Distribution,
  filters: readonly Filter[] = [],
): OutboundRoute {
  const rule: OutboundRule = {
    matches: [],
    filters,
    distribution,
    timeouts: NO_TIMEOUTS,
    retry: undefined,
    budgetedRetry: false,
    classify: HTTP_RULE,
    allowRequestHeaders: false,
  };
  return { ref, hosts: [], rules: [rule], condition: undefined, labels: {} };
}

/** Routes as Gateway API chooses them. */
export function bestOf(routes: readonly OutboundRoute[], failureAccrual?: FailureAccrual): OutboundHttp {
  return { select: "best", routes, failureAccrual, retryBudget: undefined, canonical: undefined };
}

function detectPolicy(
  source: OutboundPolicy["source"],
  ref: ResourceRef,
  http: OutboundHttp,
  opaque: ConnectionRoute | undefined,
): OutboundPolicy {
  return { source, kind: "detect", ref, http1: http, http2: http, opaque, tls: [] };
}

/** In place of a policy that makes no sense: HTTP hears 500, anything else is closed. */
export const INVALID_OUTBOUND: OutboundPolicy = detectPolicy(
  "invalid",
  defaultRef("invalid"),
  bestOf([
    catchAllOutbound(defaultRef("invalid"), { kind: "empty" }, [
      { kind: "internal-error", message: "invalid client policy" },
    ]),
  ]),
  {
    ref: defaultRef("invalid"),
    snis: [],
    filters: [{ kind: "invalid", message: "invalid client policy" }],
    distribution: { kind: "empty" },
  },
);

/** No routes: HTTP hears 404, anything else is closed. */
export const EMPTY_OUTBOUND: OutboundPolicy = detectPolicy("empty", defaultRef("empty"), bestOf([]), undefined);

/**
 * For destinations that no policy knows: forward to exactly one endpoint, without balancer and breaker.
 * @param name - `endpoint`: the profile named it; `fallback`: only the original destination is known.
 * @see outbound.md §1.4
 */
export function forwardPolicy(name: "endpoint" | "fallback", endpoint: Endpoint): OutboundPolicy {
  const ref = defaultRef(name);
  const backend = makeBackend(ref, ref, { kind: "forward", endpoint }, undefined);
  return detectPolicy(name, ref, bestOf([catchAllOutbound(ref, onlyBackend(backend))]), {
    ref,
    snis: [],
    filters: [],
    distribution: onlyBackend(backend),
  });
}

/** {@link forwardPolicy} to an address of which nothing is known: plaintext. */
export function fallbackPolicy(ip: string, port: number): OutboundPolicy {
  return forwardPolicy("fallback", plainEndpoint({ ip, port }));
}
