import type { outbound } from "../../proto/index.ts";
import {
  BadAnnotation,
  DEFAULT_LOAD,
  type GrpcRetryWish,
  type HttpRetryWish,
  type LoadMessage,
  type RetryWish,
  readGrpcRetry,
  readHttpRetry,
  readTimeouts,
  type TimeoutsMessage,
} from "./annotations.ts";
import { type BackendMessage, defaultBackend, type Parent, type Resolved, resolveBackend } from "./backend.ts";
import type { Cluster } from "./cluster.ts";
import { durationMessage, parseDurationMs, parsePolicyDurationMs } from "./duration.ts";
import { grpcMatchMessage, hostMessage, httpMatchMessage, isUnsupported, sniMessage } from "./http-match.ts";
import type { Init } from "./message.ts";
import { objectMetadata } from "./metadata.ts";
import type { BackendRef, GrpcRouteObject, HttpRouteObject, RouteObject } from "./objects.ts";
import { type FilterKind, filterKinds } from "./route-filter.ts";

export type HttpRouteMessage = Init<typeof outbound.HttpRouteSchema>;
export type GrpcRouteMessage = Init<typeof outbound.GrpcRouteSchema>;
export type OpaqueRouteMessage = Init<typeof outbound.OpaqueRouteSchema>;
export type TlsRouteMessage = Init<typeof outbound.TlsRouteSchema>;
type GrpcFilter = Init<typeof outbound.GrpcRoute_FilterSchema>;
type HttpRetry = Init<typeof outbound.HttpRoute_RetrySchema>;
type GrpcRetry = Init<typeof outbound.GrpcRoute_RetrySchema>;

/** What the parent says about timeouts and retries, for routes that say nothing. */
export interface RouteDefaults {
  readonly timeouts: TimeoutsMessage | undefined;
  readonly httpRetry: HttpRetryWish | undefined;
  readonly grpcRetry: GrpcRetryWish | undefined;
}

/** How Linkerd spaces retries, and how much of a body it keeps for them. */
const RETRY = {
  maxRequestBytes: 65_536,
  backoff: { minBackoff: durationMessage(25), maxBackoff: durationMessage(250), jitterRatio: 1 },
};

/**
 * The route's annotations, then what the rule itself asks for, then the parent's annotations: the first that says
 * anything at all is the only one that counts, except that a rule may add its request timeout to the route's others.
 *
 * @param ofRule - In milliseconds; zero is none.
 */
function timeoutsOf(
  own: TimeoutsMessage | undefined,
  ofRule: number | undefined,
  defaults: RouteDefaults,
): { readonly timeouts?: TimeoutsMessage } {
  const timeouts =
    own?.request === undefined && ofRule !== undefined && ofRule > 0
      ? { ...own, request: durationMessage(ofRule) }
      : (own ?? defaults.timeouts);
  return timeouts === undefined ? {} : { timeouts };
}

/** A text that is no duration is none in a Gateway API route, and would not be stored in one of Linkerd's. */
function ruleTimeoutMs(ofLinkerd: boolean, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return ofLinkerd ? parseDurationMs(text) : parsePolicyDurationMs(text);
}

/** The retry message for HTTP rules: conditions are statuses. */
export function httpRetry(wish: HttpRetryWish | undefined): { readonly retry?: HttpRetry } {
  return wish === undefined ? {} : { retry: { ...retryBase(wish), conditions: wish.conditions } };
}

/** The retry message for gRPC rules: conditions are codes. */
export function grpcRetry(wish: GrpcRetryWish | undefined): { readonly retry?: GrpcRetry } {
  return wish === undefined ? {} : { retry: { ...retryBase(wish), conditions: wish.conditions } };
}

function retryBase({ maxRetries, timeoutMs }: RetryWish<unknown>) {
  return { ...RETRY, maxRetries, ...(timeoutMs !== undefined && { timeout: durationMessage(timeoutMs) }) };
}

/**
 * Translates one HTTPRoute.
 *
 * @returns undefined if Linkerd drops it: a filter of an unknown kind, or an annotation that cannot be read.
 */
export function httpRouteMessage(
  cluster: Cluster,
  parent: Parent,
  route: HttpRouteObject,
  defaults: RouteDefaults,
): HttpRouteMessage | undefined {
  return dropIfBad(() => {
    const { annotations = {} } = route.metadata;
    const own = readTimeouts(annotations);
    const retry = httpRetry(readHttpRetry(annotations) ?? defaults.httpRetry);
    const ofLinkerd = route.apiVersion.startsWith("policy.linkerd.io/");
    const rules = (route.spec?.rules ?? []).map((rule) => ({
      matches: (rule.matches ?? [{}]).map(httpMatchMessage),
      filters: known(rule.filters).map((kind) => ({ kind: ofLinkerd ? confused(kind) : kind })),
      backends: distribution(
        cluster,
        parent,
        parent.load,
        rule.backendRefs ?? [],
        (resolved): Init<typeof outbound.HttpRoute_RouteBackendSchema> => ({
          backend: resolved.backend,
          filters:
            resolved.kind === "ok"
              ? resolved.filters.map((kind) => ({ kind }))
              : [{ kind: { case: "failureInjector", value: { status: 500, message: resolved.why } } }],
        }),
      ),
      ...timeoutsOf(own, ruleTimeoutMs(ofLinkerd, rule.timeouts?.request), defaults),
      ...retry,
    }));
    return { metadata: objectMetadata(route), hosts: (route.spec?.hostnames ?? []).map(hostMessage), rules };
  });
}

/** As {@link httpRouteMessage}, for a GRPCRoute. */
export function grpcRouteMessage(
  cluster: Cluster,
  parent: Parent,
  route: GrpcRouteObject,
  defaults: RouteDefaults,
): GrpcRouteMessage | undefined {
  return dropIfBad(() => {
    const { annotations = {} } = route.metadata;
    const timeouts = timeoutsOf(readTimeouts(annotations), undefined, defaults);
    const retry = grpcRetry(readGrpcRetry(annotations) ?? defaults.grpcRetry);
    if (route.spec?.rules?.some(({ matches }) => matches?.some(isUnsupported)) === true) return undefined;
    const rules = (route.spec?.rules ?? []).map((rule) => ({
      matches: (rule.matches ?? []).map(grpcMatchMessage),
      filters: known(rule.filters).map(grpcFilter),
      backends: distribution(
        cluster,
        parent,
        parent.load,
        rule.backendRefs ?? [],
        (resolved): Init<typeof outbound.GrpcRoute_RouteBackendSchema> => ({
          backend: resolved.backend,
          filters:
            resolved.kind === "ok"
              ? resolved.filters.map(grpcFilter)
              : // 500 is no gRPC code. Linkerd sends it all the same, and proxies report it as code 2.
                [{ kind: { case: "failureInjector", value: { code: 500, message: resolved.why } } }],
        }),
      ),
      ...timeouts,
      ...retry,
    }));
    return { metadata: objectMetadata(route), hosts: (route.spec?.hostnames ?? []).map(hostMessage), rules };
  });
}

/** A filter of a gRPC rule. Of those that a gRPC call cannot have the place stays, empty; proxies refuse such a policy. */
function grpcFilter(kind: FilterKind): GrpcFilter {
  return kind.case === "requestHeaderModifier" ? { kind } : {};
}

/** A TCPRoute, which Linkerd takes only with exactly one rule. */
export function opaqueRouteMessage(
  cluster: Cluster,
  parent: Parent,
  route: RouteObject,
): OpaqueRouteMessage | undefined {
  if (route.spec?.rules?.length !== 1) return undefined;
  return { metadata: objectMetadata(route), rules: [opaqueRule(cluster, parent, route)] };
}

/** A TLSRoute, which Linkerd takes only with exactly one rule. */
export function tlsRouteMessage(cluster: Cluster, parent: Parent, route: RouteObject): TlsRouteMessage | undefined {
  if (route.spec?.rules?.length !== 1) return undefined;
  const snis = (route.spec.hostnames ?? []).map(sniMessage);
  return { metadata: objectMetadata(route), snis, rules: [opaqueRule(cluster, parent, route)] };
}

/** Opaque and TLS routes carry the same rules. */
function opaqueRule(cluster: Cluster, parent: Parent, route: RouteObject) {
  const refs = route.spec?.rules?.[0]?.backendRefs ?? [];
  const backends = distribution(cluster, parent, DEFAULT_LOAD, refs, (resolved) => ({
    backend: resolved.backend,
    filters:
      resolved.kind === "invalid" ? [{ kind: { case: "invalid" as const, value: { message: resolved.why } } }] : [],
  }));
  return { backends };
}

/** One backend chosen by weight; without any named, the parent itself. */
function distribution<B>(
  cluster: Cluster,
  parent: Parent,
  load: LoadMessage,
  refs: readonly BackendRef[],
  message: (resolved: Resolved) => B,
) {
  if (refs.length === 0) {
    const backend: BackendMessage = defaultBackend(cluster, parent);
    const only = message({ kind: "ok", backend, weight: 1, filters: [] });
    return { kind: { case: "firstAvailable" as const, value: { backends: [only] } } };
  }
  const backends = refs.map((ref) => {
    const resolved = resolveBackend(cluster, parent, ref, load);
    return { backend: message(resolved), weight: resolved.weight };
  });
  return { kind: { case: "randomAvailable" as const, value: { backends } } };
}

function known(filters: Parameters<typeof filterKinds>[0]): readonly FilterKind[] {
  const kinds = filterKinds(filters);
  if (kinds === undefined) throw new BadAnnotation("a filter of an unknown kind");
  return kinds;
}

/** Linkerd's own HTTPRoute kind has its response modifiers translated as request modifiers; so do we. */
function confused(kind: FilterKind): FilterKind {
  return kind.case === "responseHeaderModifier" ? { case: "requestHeaderModifier", value: kind.value } : kind;
}

function dropIfBad<T>(translate: () => T): T | undefined {
  try {
    return translate();
  } catch (error) {
    if (error instanceof BadAnnotation) return undefined;
    throw error;
  }
}
