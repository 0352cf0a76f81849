import type {
  InboundPolicy,
  NamedMatch,
  OutboundHttp,
  OutboundPolicy,
  Pattern,
  ProfileCondition,
  RouteMatch,
} from "./model.ts";

type Visit = (pattern: Pattern) => void;

/** Calls `visit` with every regular expression of an inbound policy. */
export function eachInboundPattern(policy: InboundPolicy, visit: Visit): void {
  const { protocol } = policy;
  if (protocol.kind === "opaque" || protocol.kind === "tls") return;
  for (const route of protocol.routes) {
    for (const rule of route.rules) for (const match of rule.matches) visitMatch(match, visit);
  }
}

/** Calls `visit` with every regular expression of an outbound policy. */
export function eachOutboundPattern(policy: OutboundPolicy, visit: Visit): void {
  if (policy.http1 !== undefined) visitHttp(policy.http1, visit);
  if (policy.http2 !== undefined && policy.http2 !== policy.http1) visitHttp(policy.http2, visit);
}

function visitHttp(http: OutboundHttp, visit: Visit): void {
  for (const route of http.routes) {
    if (route.condition !== undefined) visitCondition(route.condition, visit);
    for (const rule of route.rules) for (const match of rule.matches) visitMatch(match, visit);
  }
}

function visitMatch(match: RouteMatch, visit: Visit): void {
  for (const header of match.headers) visitNamed(header, visit);
  if (match.kind === "grpc") return;
  if (match.path?.kind === "regex") visit(match.path.pattern);
  for (const parameter of match.query) visitNamed(parameter, visit);
}

function visitNamed(match: NamedMatch, visit: Visit): void {
  if (match.value.kind === "regex") visit(match.value.pattern);
}

function visitCondition(condition: ProfileCondition, visit: Visit): void {
  switch (condition.kind) {
    case "all":
    case "any":
      for (const inner of condition.of) visitCondition(inner, visit);
      return;
    case "not":
      visitCondition(condition.of, visit);
      return;
    case "path":
      visit(condition.pattern);
      return;
    case "method":
      return;
    default:
      condition satisfies never;
  }
}
