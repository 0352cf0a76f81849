import type { inbound } from "../../proto/index.ts";
import { isDnsName } from "../core/authority.ts";
import {
  type Authentication,
  type Authorization,
  CATCH_ALL_ROUTE,
  defaultRef,
  type Filter,
  INVALID_INBOUND,
  type InboundPolicy,
  type InboundProtocol,
  type InboundRoute,
  LOOPBACK_AUTHORIZATION,
  type RateLimits,
  type ResourceRef,
} from "../policy/index.ts";
import { requiredDuration } from "./duration.ts";
import { InvalidMessage, required } from "./invalid.ts";
import { decodeNetwork } from "./net.ts";
import { decodeLocalRef, optionalRef } from "./ref.ts";
import {
  ANY_CALL,
  decodeGrpcFailure,
  decodeGrpcMatch,
  decodeHeaderChanges,
  decodeHost,
  decodeHttpFailure,
  decodeHttpMatch,
  decodeRedirect,
} from "./route.ts";

export interface Decoded<T> {
  readonly policy: T;
  /** Why the policy is the invalid one. */
  readonly invalid: string | undefined;
}

/**
 * Makes a port's policy of what `WatchPort` sent. Anything that makes no sense, anywhere, replaces all of it by the
 * policy that admits nobody.
 * @see inbound.md §4.2
 */
export function decodeInboundPolicy(message: inbound.Server): Decoded<InboundPolicy> {
  try {
    const policy: InboundPolicy = {
      source: "api",
      ref: serverRef(message.labels),
      protocol: decodeProtocol(message.protocol),
      // `server_ips` is for others. Connections from this very host need no authorization, whatever the server says.
      authorizations: [...message.authorizations.map(decodeAuthorization), LOOPBACK_AUTHORIZATION],
    };
    return { policy, invalid: undefined };
  } catch (error) {
    if (!(error instanceof InvalidMessage)) throw error;
    return { policy: INVALID_INBOUND, invalid: error.message };
  }
}

/** A Server or a default, told by labels; older controllers send `kind:name` as the name. */
function serverRef(labels: Readonly<Record<string, string>>): ResourceRef {
  return labelRef(labels, "server");
}

function labelRef(labels: Readonly<Record<string, string>>, defaultKind: string): ResourceRef {
  let name = required(labels["name"], "label name");
  let kind = labels["kind"];
  const colon = name.indexOf(":");
  if (kind === undefined && colon >= 0) {
    kind = name.slice(0, colon);
    name = name.slice(colon + 1);
  }
  if (kind === "default") return defaultRef(name);
  return {
    group: labels["group"] ?? "policy.linkerd.io",
    kind: kind ?? defaultKind,
    name,
    namespace: labels["namespace"] ?? "",
    section: "",
    port: 0,
  };
}

function decodeProtocol(message: inbound.ProxyProtocol | undefined): InboundProtocol {
  const kind = message?.kind;
  switch (kind?.case) {
    case "detect":
      return {
        kind: "detect",
        timeoutMs: requiredDuration(kind.value.timeout, "detect timeout"),
        routes: decodeHttpRoutes(kind.value.httpRoutes),
        rateLimits: decodeRateLimits(kind.value.httpLocalRateLimit),
      };
    case "http1":
    case "http2":
      return {
        kind: kind.case,
        routes: decodeHttpRoutes(kind.value.routes),
        rateLimits: decodeRateLimits(kind.value.localRateLimit),
      };
    case "grpc":
      return { kind: "grpc", routes: decodeGrpcRoutes(kind.value.routes), rateLimits: undefined };
    case "opaque":
    case "tls":
      return { kind: kind.case };
    default:
      throw new InvalidMessage("protocol is missing or not known");
  }
}

function decodeAuthorization(message: inbound.Authz): Authorization {
  if (message.networks.length === 0) throw new InvalidMessage("authorization without networks");
  return {
    ref:
      message.metadata === undefined
        ? labelRef(message.labels, "serverauthorization")
        : decodeLocalRef(message.metadata, "authorization"),
    networks: message.networks.map(({ net, except }) => ({
      net: decodeNetwork(net),
      except: except.map(decodeNetwork),
    })),
    authentication: decodeAuthentication(message.authentication),
  };
}

function decodeAuthentication(message: inbound.Authn | undefined): Authentication {
  const permit = message?.permit;
  if (permit?.case === "unauthenticated") return { kind: "none" };
  if (permit?.case !== "meshTLS") throw new InvalidMessage("authentication is missing or not known");
  const { clients } = permit.value;
  switch (clients.case) {
    case "unauthenticated":
      return { kind: "mesh-tls" };
    case "identities":
      return {
        kind: "identities",
        identities: clients.value.identities.map(({ name }) => name),
        suffixes: clients.value.suffixes.map(({ parts }) => (parts.length === 0 ? "" : `.${parts.join(".")}`)),
      };
    default:
      throw new InvalidMessage("mesh TLS clients are missing or not known");
  }
}

function decodeHttpRoutes(messages: readonly inbound.HttpRoute[]): readonly InboundRoute[] {
  // Older controllers send no routes where they mean all requests.
  if (messages.length === 0) return [CATCH_ALL_ROUTE];
  return messages.map((message) => ({
    ref: decodeLocalRef(message.metadata, "route"),
    hosts: message.hosts.map(decodeHost),
    authorizations: message.authorizations.map(decodeAuthorization),
    rules: message.rules.map(({ matches, filters }) => ({
      matches: matches.map(decodeHttpMatch),
      filters: filters.map(decodeHttpFilter),
    })),
  }));
}

function decodeGrpcRoutes(messages: readonly inbound.GrpcRoute[]): readonly InboundRoute[] {
  if (messages.length === 0) return [{ ...CATCH_ALL_ROUTE, rules: [{ matches: [ANY_CALL], filters: [] }] }];
  return messages.map((message) => ({
    ref: decodeLocalRef(message.metadata, "route"),
    hosts: message.hosts.map(decodeHost),
    authorizations: message.authorizations.map(decodeAuthorization),
    rules: message.rules.map(({ matches, filters }) => ({
      matches: matches.length === 0 ? [ANY_CALL] : matches.map(decodeGrpcMatch),
      filters: filters.map(decodeGrpcFilter),
    })),
  }));
}

// Not an invalid policy: only the requests that meet the filter fail.
const UNKNOWN_FILTER: Filter = {
  kind: "internal-error",
  message: "invalid server policy: server policy configured with unknown filter",
};

function decodeHttpFilter(message: inbound.HttpRoute_Filter): Filter {
  switch (message.kind.case) {
    case "failureInjector":
      return decodeHttpFailure(message.kind.value);
    case "requestHeaderModifier":
      return { kind: "request-headers", changes: decodeHeaderChanges(message.kind.value) };
    case "redirect":
      return decodeRedirect(message.kind.value);
    default:
      return UNKNOWN_FILTER;
  }
}

function decodeGrpcFilter(message: inbound.GrpcRoute_Filter): Filter {
  switch (message.kind.case) {
    case "failureInjector":
      return decodeGrpcFailure(message.kind.value);
    case "requestHeaderModifier":
      return { kind: "request-headers", changes: decodeHeaderChanges(message.kind.value) };
    default:
      return UNKNOWN_FILTER;
  }
}

function decodeRateLimits(message: inbound.HttpLocalRateLimit | undefined): RateLimits | undefined {
  if (message === undefined) return undefined;
  return {
    ref: optionalRef(message.metadata),
    // 0 is no limit, not a closed door.
    total: message.total?.requestsPerSecond || undefined,
    perIdentity: message.identity?.requestsPerSecond || undefined,
    overrides: message.overrides.flatMap(({ limit, clients }) => {
      const identities = (clients?.identities ?? []).map(({ name }) => name).filter(isIdentity);
      const rps = limit?.requestsPerSecond ?? 0;
      return rps === 0 || identities.length === 0 ? [] : [{ limit: rps, identities }];
    }),
  };
}

function isIdentity(name: string): boolean {
  return isDnsName(name) || (name.includes(":") && URL.canParse(name));
}
