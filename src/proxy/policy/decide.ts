import { HeaderList } from "../core/header.ts";
import type { HttpVersion, RequestHead } from "../core/http.ts";
import { authorize, type Client } from "./authorize.ts";
import { matchProfile, RequestView, RouteFinder } from "./match/index.ts";
import type {
  Authorization,
  InboundPolicy,
  InboundRoute,
  InboundRule,
  OutboundHttp,
  OutboundPolicy,
  OutboundRoute,
  OutboundRule,
  RouteMatch,
} from "./model.ts";
import type { RequestLimits } from "./overrides.ts";

/** Proof that a request may pass, with all that later layers and labels need to know about why. */
export interface Permit {
  readonly kind: "permit";
  readonly policy: InboundPolicy;
  readonly route: InboundRoute;
  readonly rule: InboundRule;
  readonly match: RouteMatch;
  /** Which resource allowed it. */
  readonly authorization: Authorization;
}

/** Proof that a connection may pass unparsed. */
export interface ConnectionPermit {
  readonly kind: "permit";
  readonly policy: InboundPolicy;
  readonly authorization: Authorization;
}

export type InboundDecision =
  | Permit
  /** 404: no route fits, or the port's protocol has become one without routes. */
  | { readonly kind: "not-found"; readonly policy: InboundPolicy }
  /** 403. */
  | { readonly kind: "denied"; readonly policy: InboundPolicy; readonly route: InboundRoute };

export type ConnectionDecision = ConnectionPermit | { readonly kind: "denied"; readonly policy: InboundPolicy };

/** The route, rule and match of a request; all three belong to the policy and outlive the request. */
export interface OutboundChoice {
  readonly http: OutboundHttp;
  readonly route: OutboundRoute;
  readonly rule: OutboundRule;
  /** For prefix redirects; undefined on a ServiceProfile's routes. */
  readonly match: RouteMatch | undefined;
  /** Timeouts and retries of this request: the rule's, until its own headers are found to say otherwise. */
  limits: RequestLimits;
}

// Decisions are synchronous and never nest, so one view and one finder serve a whole worker.
const view = new RequestView(new HeaderList());
const finder = new RouteFinder();

/**
 * Decides about a request to this host's workload. Called for every request, with the policy of that moment.
 * @see inbound.md §4.3, §6.5
 */
export function decideInbound(policy: InboundPolicy, head: RequestHead, client: Client): InboundDecision {
  const { protocol } = policy;
  if (protocol.kind === "opaque" || protocol.kind === "tls") return { kind: "not-found", policy };
  if (!finder.find(protocol.routes, view.load(head))) return { kind: "not-found", policy };
  const route = protocol.routes[finder.route] as InboundRoute;
  // The route's own first, then the server's, then the loopback exemption.
  const authorization = authorize(route.authorizations, client) ?? authorize(policy.authorizations, client);
  if (authorization === undefined) return { kind: "denied", policy, route };
  const rule = route.rules[finder.rule] as InboundRule;
  return { kind: "permit", policy, route, rule, match: finder.match, authorization };
}

/**
 * Decides about a connection whose bytes we do not parse: when it is set up, and again at every change of the policy
 * while it lives. A port declared HTTP has no authorization for opaque bytes.
 */
export function decideConnection(policy: InboundPolicy, client: Client): ConnectionDecision {
  const { kind } = policy.protocol;
  if (kind === "http1" || kind === "http2" || kind === "grpc") return { kind: "denied", policy };
  const authorization = authorize(policy.authorizations, client);
  return authorization === undefined ? { kind: "denied", policy } : { kind: "permit", policy, authorization };
}

/**
 * How a policy routes a connection's HTTP version. A connection keeps its version while the policy changes between the
 * HTTP kinds, so the other version's routes serve where its own are gone (outbound.md §1.7.5).
 * @returns undefined if the policy has become opaque or TLS.
 */
export function outboundHttp(policy: OutboundPolicy, version: HttpVersion): OutboundHttp | undefined {
  return version === "2" ? (policy.http2 ?? policy.http1) : (policy.http1 ?? policy.http2);
}

/**
 * Chooses route and rule for a request of the host's programs.
 * @returns undefined: no route, 404.
 * @see outbound.md §3.3, §9.2
 */
export function decideOutbound(http: OutboundHttp, head: RequestHead): OutboundChoice | undefined {
  view.load(head);
  if (http.select === "first") return firstOf(http);
  if (!finder.find(http.routes, view)) return undefined;
  const route = http.routes[finder.route] as OutboundRoute;
  const rule = route.rules[finder.rule] as OutboundRule;
  return { http, route, rule, match: finder.match, limits: rule };
}

function firstOf(http: OutboundHttp): OutboundChoice | undefined {
  for (const route of http.routes) {
    const rule = route.rules[0];
    if (rule === undefined || (route.condition !== undefined && !matchProfile(route.condition, view))) continue;
    return { http, route, rule, match: undefined, limits: rule };
  }
  return undefined;
}
