import type { outbound } from "../../proto/index.ts";
import { BadAnnotation, type RetryWish, readRetry, readTimeouts, type TimeoutsMessage } from "./annotations.ts";
import { type BackendMessage, defaultBackend, type Parent, type Resolved, resolveBackend } from "./backend.ts";
import type { Cluster } from "./cluster.ts";
import { durationMessage, parseDurationMs } from "./duration.ts";
import { grpcMatchMessage, hostMessage, httpMatchMessage, sniMessage } from "./http-match.ts";
import type { Init } from "./message.ts";
import { objectMetadata } from "./metadata.ts";
import type { BackendRef, GrpcRouteObject, HttpRouteObject, RouteObject, RouteRule } from "./objects.ts";
import { type FilterKind, filterKinds } from "./route-filter.ts";

export type HttpRouteMessage = Init<typeof outbound.HttpRouteSchema>;
export type GrpcRouteMessage = Init<typeof outbound.GrpcRouteSchema>;
export type OpaqueRouteMessage = Init<typeof outbound.OpaqueRouteSchema>;
export type TlsRouteMessage = Init<typeof outbound.TlsRouteSchema>;
type HttpFilter = Init<typeof outbound.HttpRoute_FilterSchema>;
type GrpcFilter = Init<typeof outbound.GrpcRoute_FilterSchema>;
type HttpRetry = Init<typeof outbound.HttpRoute_RetrySchema>;
type GrpcRetry = Init<typeof outbound.GrpcRoute_RetrySchema>;

/** What the parent says about timeouts and retries, for routes that say nothing. */
export interface RouteDefaults {
  readonly timeouts: TimeoutsMessage | undefined;
  readonly retry: RetryWish | undefined;
}

/** How Linkerd spaces retries, and how much of a body it keeps for them. */
const RETRY = {
  maxRequestBytes: 65_536,
  backoff: { minBackoff: durationMessage(25), maxBackoff: durationMessage(250), jitterRatio: 1 },
};

/**
 * Group by group, a route's own annotations replace those of its parent.
 *
 * @throws BadAnnotation
 */
function wishesOf(route: RouteObject, defaults: RouteDefaults): RouteDefaults {
  const { annotations = {} } = route.metadata;
  return {
    timeouts: readTimeouts(annotations) ?? defaults.timeouts,
    retry: readRetry(annotations) ?? defaults.retry,
  };
}

function timeoutsOf(wishes: RouteDefaults, rule: RouteRule<unknown>): TimeoutsMessage | undefined {
  const text = rule.timeouts?.request;
  if (text === undefined) return wishes.timeouts;
  const ms = parseDurationMs(text);
  if (ms === undefined) throw new BadAnnotation(`not a duration: ${text}`);
  return { ...wishes.timeouts, ...(ms > 0 && { request: durationMessage(ms) }) };
}

/** The retry message for HTTP rules: conditions are statuses. */
export function httpRetry(wish: RetryWish | undefined): { readonly retry?: HttpRetry } {
  return wish === undefined ? {} : { retry: { ...retryBase(wish), conditions: wish.http } };
}

/** The retry message for gRPC rules: conditions are codes. */
export function grpcRetry(wish: RetryWish | undefined): { readonly retry?: GrpcRetry } {
  return wish === undefined ? {} : { retry: { ...retryBase(wish), conditions: wish.grpc } };
}

function retryBase({ maxRetries, timeoutMs }: RetryWish) {
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
    const wishes = wishesOf(route, defaults);
    const ofLinkerd = route.apiVersion.startsWith("policy.linkerd.io/");
    const filters = (list: Parameters<typeof filterKinds>[0]): HttpFilter[] =>
      known(list).map((kind) => ({ kind: ofLinkerd ? confused(kind) : kind }));
    const rules = (route.spec?.rules ?? []).map((rule) => {
      const timeouts = timeoutsOf(wishes, rule);
      const refs = rule.backendRefs ?? [];
      return {
        matches: (rule.matches ?? [{}]).map(httpMatchMessage),
        filters: filters(rule.filters),
        backends: distribution(
          cluster,
          parent,
          route,
          refs,
          (resolved, ref): Init<typeof outbound.HttpRoute_RouteBackendSchema> => ({
            backend: resolved.backend,
            filters: [
              ...filters(ref?.filters),
              ...(resolved.kind === "invalid"
                ? [{ kind: { case: "failureInjector" as const, value: failure(resolved.why) } }]
                : []),
            ],
          }),
        ),
        ...(timeouts && { timeouts }),
        ...httpRetry(wishes.retry),
      };
    });
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
    const wishes = wishesOf(route, defaults);
    const filters = (list: Parameters<typeof filterKinds>[0]): GrpcFilter[] =>
      known(list).map((kind) => {
        // Requests alone can be changed, and a gRPC call cannot be redirected.
        if (kind.case !== "requestHeaderModifier") throw new BadAnnotation(`no such filter for gRPC: ${kind.case}`);
        return { kind };
      });
    const rules = (route.spec?.rules ?? []).map((rule) => {
      const timeouts = timeoutsOf(wishes, rule);
      return {
        matches: (rule.matches ?? [{}]).map(grpcMatchMessage),
        filters: filters(rule.filters),
        backends: distribution(
          cluster,
          parent,
          route,
          rule.backendRefs ?? [],
          (resolved, ref): Init<typeof outbound.GrpcRoute_RouteBackendSchema> => ({
            backend: resolved.backend,
            filters: [
              ...filters(ref?.filters),
              ...(resolved.kind === "invalid"
                ? // 500 is no gRPC code. Linkerd sends it all the same, and proxies report it as code 2.
                  [{ kind: { case: "failureInjector" as const, value: { ...failure(resolved.why), code: 500 } } }]
                : []),
            ],
          }),
        ),
        ...(timeouts && { timeouts }),
        ...grpcRetry(wishes.retry),
      };
    });
    return { metadata: objectMetadata(route), hosts: (route.spec?.hostnames ?? []).map(hostMessage), rules };
  });
}

/** A TCPRoute: its first rule is the only one that counts. */
export function opaqueRouteMessage(cluster: Cluster, parent: Parent, route: RouteObject): OpaqueRouteMessage {
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
  const backends = distribution(cluster, parent, route, refs, (resolved) => ({
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
  route: RouteObject,
  refs: readonly BackendRef[],
  message: (resolved: Resolved, ref: BackendRef | undefined) => B,
) {
  if (refs.length === 0) {
    const backend: BackendMessage = defaultBackend(cluster, parent);
    const only = message({ kind: "ok", backend, weight: 1 }, undefined);
    return { kind: { case: "firstAvailable" as const, value: { backends: [only] } } };
  }
  const home = route.metadata.namespace ?? "";
  const backends = refs.map((ref) => {
    const resolved = resolveBackend(cluster, parent, home, ref);
    return { backend: message(resolved, ref), weight: resolved.weight };
  });
  return { kind: { case: "randomAvailable" as const, value: { backends } } };
}

function failure(message: string) {
  return { status: 500, message, ratio: { numerator: 1, denominator: 1 } };
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
