import type { Cidr } from "../core/address.ts";
import type { Endpoint } from "../core/endpoint.ts";

/*
 * Plain readonly data, structured-clone and JSON safe. The one exception is `Pattern.matches`, which the worker fills
 * in after the data arrived: expressions are compiled where they are used, outside the pure rings.
 */

/** A Kubernetes resource, or a default (`kind: "default"`, `group: ""`), for labels and messages. */
export interface ResourceRef {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
  /** Empty: none. */
  readonly section: string;
  /** 0: none. */
  readonly port: number;
}

/**
 * A compiled regular expression.
 * @returns Whether the *leftmost* match in `text` spans all of it, which is weaker than an anchored match: `a|ab` does
 *   not match `ab`.
 */
export type TextTest = (text: string) => boolean;

export interface Pattern {
  /** Rust `regex` syntax. */
  readonly source: string;
  /** Set by `proxy/discovery` before the policy is used; until then nothing matches. Never crosses threads. */
  matches?: TextTest;
}

/* ---- what a request must look like ---- */

export type HostMatch =
  | {
      readonly kind: "exact";
      /** Lower case. */
      readonly host: string;
    }
  | {
      readonly kind: "suffix";
      /** `.example.com` for `*.example.com`, in lower case. */
      readonly suffix: string;
    };

export type PathMatch =
  | { readonly kind: "exact"; readonly path: string }
  | {
      readonly kind: "prefix";
      /** Without trailing slashes, so `""` for `/`. */
      readonly prefix: string;
    }
  | { readonly kind: "regex"; readonly pattern: Pattern };

/** A value to be equal to, or an expression to span. */
export type ValueMatch =
  | { readonly kind: "exact"; readonly value: string }
  | { readonly kind: "regex"; readonly pattern: Pattern };

export interface NamedMatch {
  /** Lower case for headers, as given for query parameters. */
  readonly name: string;
  readonly value: ValueMatch;
}

/** All parts must hold; an undefined part always does. */
export interface HttpMatch {
  readonly kind: "http";
  readonly method: string | undefined;
  readonly path: PathMatch | undefined;
  readonly headers: readonly NamedMatch[];
  readonly query: readonly NamedMatch[];
}

export interface GrpcMatch {
  readonly kind: "grpc";
  /** Empty: any. */
  readonly service: string;
  /** Empty: any. */
  readonly method: string;
  readonly headers: readonly NamedMatch[];
}

export type RouteMatch = HttpMatch | GrpcMatch;

/** The condition tree of a ServiceProfile route or response class. */
export type ProfileCondition =
  | { readonly kind: "all"; readonly of: readonly ProfileCondition[] }
  | { readonly kind: "any"; readonly of: readonly ProfileCondition[] }
  | { readonly kind: "not"; readonly of: ProfileCondition }
  | { readonly kind: "path"; readonly pattern: Pattern }
  | { readonly kind: "method"; readonly method: string };

export type ResponseCondition =
  | { readonly kind: "all"; readonly of: readonly ResponseCondition[] }
  | { readonly kind: "any"; readonly of: readonly ResponseCondition[] }
  | { readonly kind: "not"; readonly of: ResponseCondition }
  | { readonly kind: "status"; readonly min: number; readonly max: number };

export interface ResponseClass {
  readonly condition: ResponseCondition;
  readonly failure: boolean;
}

/* ---- what happens to it ---- */

export interface HeaderValue {
  /** As given by the policy; a legal field name. */
  readonly name: string;
  /** latin1 text, one char per byte. */
  readonly value: string;
}

/** `add` appends, then `set` replaces, then `remove` (lower case) drops. */
export interface HeaderChanges {
  readonly add: readonly HeaderValue[];
  readonly set: readonly HeaderValue[];
  readonly remove: readonly string[];
}

export interface Ratio {
  readonly numerator: number;
  readonly denominator: number;
}

export interface RedirectFilter {
  readonly kind: "redirect";
  readonly scheme: string | undefined;
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly path:
    | { readonly kind: "full"; readonly path: string }
    | { readonly kind: "prefix"; readonly prefix: string }
    | undefined;
  readonly status: number;
}

export type Filter =
  | { readonly kind: "request-headers"; readonly changes: HeaderChanges }
  | { readonly kind: "response-headers"; readonly changes: HeaderChanges }
  | { readonly kind: "http-failure"; readonly status: number; readonly message: string; readonly ratio: Ratio }
  | { readonly kind: "grpc-failure"; readonly code: number; readonly message: string; readonly ratio: Ratio }
  | RedirectFilter
  /** Sent by a newer control plane, or the built-in `invalid` policy: the request fails with 500. */
  | { readonly kind: "internal-error"; readonly message: string };

/** For a connection: only the first filter counts, and it closes the connection. */
export type ConnectionFilter = { readonly kind: "forbidden" } | { readonly kind: "invalid"; readonly message: string };

/* ---- inbound ---- */

export interface Network {
  readonly net: Cidr;
  readonly except: readonly Cidr[];
}

export type Authentication =
  /** Anyone, TLS or not. */
  | { readonly kind: "none" }
  /** Mesh TLS terminated here, with or without a client identity. */
  | { readonly kind: "mesh-tls" }
  | {
      readonly kind: "identities";
      readonly identities: readonly string[];
      /** `.a.b` for the parts [a, b]; the empty text admits every DNS identity. Never matches a URI identity. */
      readonly suffixes: readonly string[];
    };

export interface Authorization {
  readonly ref: ResourceRef;
  readonly networks: readonly Network[];
  readonly authentication: Authentication;
}

export interface InboundRule {
  /** Empty: matches like the prefix `/` (HTTP), or like any call (gRPC). */
  readonly matches: readonly RouteMatch[];
  readonly filters: readonly Filter[];
}

export interface InboundRoute {
  readonly ref: ResourceRef;
  /** Empty: any host, also none. */
  readonly hosts: readonly HostMatch[];
  /** Its own; the policy's follow. */
  readonly authorizations: readonly Authorization[];
  readonly rules: readonly InboundRule[];
}

/** Requests per second; undefined: no limit. */
export interface RateLimits {
  readonly ref: ResourceRef | undefined;
  readonly total: number | undefined;
  readonly perIdentity: number | undefined;
  readonly overrides: readonly { readonly limit: number; readonly identities: readonly string[] }[];
}

export type InboundProtocol =
  | {
      readonly kind: "detect";
      readonly timeoutMs: number;
      readonly routes: readonly InboundRoute[];
      readonly rateLimits: RateLimits | undefined;
    }
  | {
      readonly kind: "http1" | "http2" | "grpc";
      readonly routes: readonly InboundRoute[];
      readonly rateLimits: RateLimits | undefined;
    }
  | { readonly kind: "opaque" }
  | { readonly kind: "tls" };

/** What one port of the workload accepts. */
export interface InboundPolicy {
  /** `default`: our configuration's; `api`: the control plane's; `invalid`: it sent something that makes no sense. */
  readonly source: "default" | "api" | "invalid";
  /** The Server resource, or a default. */
  readonly ref: ResourceRef;
  readonly protocol: InboundProtocol;
  /** The server's, and the loopback exemption last. For the connection and, after their own, for all routes. */
  readonly authorizations: readonly Authorization[];
}

/* ---- outbound ---- */

export type LoadConfig =
  | { readonly kind: "peak-ewma"; readonly defaultRttMs: number; readonly decayMs: number }
  | {
      readonly kind: "penalty-peak-ewma";
      readonly defaultRttMs: number;
      readonly decayMs: number;
      readonly penaltyMs: number;
      readonly maxRetryAfterMs: number;
    };

export interface Backoff {
  readonly minMs: number;
  readonly maxMs: number;
  /** 0–100: part of the base that may be added at random. */
  readonly jitter: number;
}

/** `minReady`: endpoints that stay in use however they fail; none given: 0. */
export type FailureAccrual =
  | {
      readonly kind: "consecutive";
      readonly maxFailures: number;
      readonly backoff: Backoff;
      readonly minReady?: number;
    }
  | {
      readonly kind: "unified";
      /** 0–1; 0 = not by rate. */
      readonly successRateThreshold: number;
      readonly windowMs: number;
      readonly minRequests: number;
      /** 0 = not by row. */
      readonly maxConsecutiveFailures: number;
      readonly backoff: Backoff;
      readonly minReady?: number;
    };

export type Dispatch =
  | {
      readonly kind: "balancer";
      /** What to ask `Destination.Get` for: `name:port`. */
      readonly path: string;
      readonly load: LoadConfig;
    }
  | { readonly kind: "forward"; readonly endpoint: Endpoint }
  | { readonly kind: "fail"; readonly message: string };

/** A destination of a route: equal {@link key} means that a running balancer or pool may be kept across updates. */
export interface Backend {
  readonly key: string;
  /** The Service or EgressNetwork whose policy names it. */
  readonly parent: ResourceRef;
  readonly ref: ResourceRef;
  readonly dispatch: Dispatch;
  /** Undefined where there is no breaker: forward and opaque backends, profiles. */
  readonly failureAccrual: FailureAccrual | undefined;
}

export interface RouteBackend<F> {
  readonly backend: Backend;
  /** 1 in `first-available`. */
  readonly weight: number;
  /** Run after the route's, once the backend is chosen. */
  readonly filters: readonly F[];
}

/** `empty` is never ready. */
export type Distribution<F = Filter> =
  | { readonly kind: "empty" }
  | { readonly kind: "first-available" | "random-available"; readonly backends: readonly RouteBackend<F>[] };

/** Milliseconds; undefined: none. `outbound.md` §3.7. */
export interface Timeouts {
  /** From entering the route to the end of the response body, all attempts included. */
  readonly requestMs: number | undefined;
  /** Per attempt, from the end of the request (or the response head) to the end of the response body. */
  readonly responseMs: number | undefined;
  /** Between frames, either direction. */
  readonly idleMs: number | undefined;
  /** ServiceProfile only: from entering the route to the response head, all attempts included; closes the connection. */
  readonly headersMs: number | undefined;
}

export interface RetryPolicy {
  readonly maxRetries: number;
  readonly maxRequestBytes: number;
  /** Inclusive. */
  readonly statusRanges: readonly { readonly start: number; readonly end: number }[];
  readonly grpcCodes: readonly number[];
  /** Per attempt, from the end of the request to the response head; not for the last possible attempt. */
  readonly timeoutMs: number | undefined;
  readonly backoff: Backoff | undefined;
}

/** ServiceProfile retries: by share of requests instead of by number. One budget for all routes of a profile. */
export interface RetryBudgetConfig {
  readonly ratio: number;
  readonly minRetriesPerSecond: number;
  readonly ttlMs: number;
}

/** How to tell success from failure: `outbound.md` §9.4. */
export type ClassifyRule =
  | { readonly kind: "http" }
  | { readonly kind: "grpc" }
  | { readonly kind: "profile"; readonly classes: readonly ResponseClass[] };

export interface OutboundRule {
  /** Empty: matches like the prefix `/` (HTTP), or like any call (gRPC). Unused in profile routes. */
  readonly matches: readonly RouteMatch[];
  readonly filters: readonly Filter[];
  readonly distribution: Distribution;
  readonly timeouts: Timeouts;
  readonly retry: RetryPolicy | undefined;
  /** ServiceProfile route that may be retried within the policy's {@link OutboundHttp.retryBudget}. */
  readonly budgetedRetry: boolean;
  readonly classify: ClassifyRule;
  /** Whether `l5d-retry-*` and `l5d-*-timeout` headers of the application count, and are then removed. */
  readonly allowRequestHeaders: boolean;
}

export interface OutboundRoute {
  readonly ref: ResourceRef;
  readonly hosts: readonly HostMatch[];
  readonly rules: readonly OutboundRule[];
  /** Profile routes only: decides alone, in list order. */
  readonly condition: ProfileCondition | undefined;
  /** Labels of a profile route's metrics. */
  readonly labels: Readonly<Record<string, string>>;
}

/** How one HTTP version is routed. */
export interface OutboundHttp {
  /** `best`: highest rank wins (routes); `first`: first condition that holds (ServiceProfile). */
  readonly select: "best" | "first";
  readonly routes: readonly OutboundRoute[];
  readonly failureAccrual: FailureAccrual | undefined;
  /** ServiceProfile only. */
  readonly retryBudget: RetryBudgetConfig | undefined;
  /** ServiceProfile only: value for `l5d-dst-canonical`, `name:port`. */
  readonly canonical: string | undefined;
}

export interface SniMatch {
  readonly kind: "exact" | "suffix";
  /** As sent by the policy: SNI is compared with case (and arrives in lower case). `.example.com` for a suffix. */
  readonly value: string;
}

export interface ConnectionRoute {
  readonly ref: ResourceRef;
  /** TLS only; empty: any SNI, with the lowest rank. */
  readonly snis: readonly SniMatch[];
  readonly filters: readonly ConnectionFilter[];
  readonly distribution: Distribution<ConnectionFilter>;
}

/** How a connection to one original destination is carried; one ServiceProfile's wishes are already in it. */
export interface OutboundPolicy {
  /** `api` came from the control plane, the others are ours: `outbound.md` §3.11. */
  readonly source: "api" | "invalid" | "empty" | "endpoint" | "fallback" | "profile";
  readonly kind: "detect" | "http1" | "http2" | "grpc" | "opaque" | "tls";
  /** The Service or EgressNetwork, or a default. */
  readonly ref: ResourceRef;
  /** Set for `detect` and `http1`. */
  readonly http1: OutboundHttp | undefined;
  /** Set for `detect`, `http2` and `grpc`. */
  readonly http2: OutboundHttp | undefined;
  /** Set for `detect` and `opaque`. Undefined there: no route, the connection is closed. */
  readonly opaque: ConnectionRoute | undefined;
  /** Set for `tls`. */
  readonly tls: readonly ConnectionRoute[];
}

/** A weighted destination of a ServiceProfile. */
export interface ProfileTarget {
  /** `name:port`, for `Destination.Get`. */
  readonly path: string;
  readonly weight: number;
  readonly ref: ResourceRef | undefined;
}

export interface ProfileRoute {
  readonly condition: ProfileCondition;
  readonly classes: readonly ResponseClass[];
  readonly labels: Readonly<Record<string, string>>;
  readonly retryable: boolean;
  readonly timeoutMs: number | undefined;
}

/** What `Destination.GetProfile` said. */
export interface Profile {
  /** The connection is opaque, whatever the policy says. */
  readonly opaque: boolean;
  /** Fully qualified name without port. */
  readonly logicalName: string | undefined;
  /** The pod or workload that owns a looked-up address. */
  readonly endpoint: Endpoint | undefined;
  readonly routes: readonly ProfileRoute[];
  readonly targets: readonly ProfileTarget[];
  readonly retryBudget: RetryBudgetConfig | undefined;
}

/** Everything known about one original destination. */
export interface OutboundState {
  /** Policy and profile combined by `outbound.md` §1.4 and §1.7. */
  readonly policy: OutboundPolicy;
  readonly profile: Profile | undefined;
}
