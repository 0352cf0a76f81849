import type { grpcRoute, httpRoute, httpTypes } from "../../proto/index.ts";
import { headerName } from "../core/header.ts";
import type {
  Filter,
  GrpcMatch,
  HeaderChanges,
  HeaderValue,
  HostMatch,
  HttpMatch,
  NamedMatch,
  PathMatch,
  Pattern,
  Ratio,
  RedirectFilter,
} from "../policy/index.ts";
import { InvalidMessage, required } from "./invalid.ts";
import { compilePattern } from "./regex.ts";

/*
 * What inbound and outbound routes share: hosts, matches, filters. Every function throws InvalidMessage for what makes
 * no sense, and the caller replaces the whole policy.
 */

export function decodeHost(message: httpRoute.HostMatch): HostMatch {
  switch (message.match.case) {
    case "exact":
      return { kind: "exact", host: message.match.value.toLowerCase() };
    case "suffix":
      return { kind: "suffix", suffix: joinSuffix(message.match.value.reverseLabels).toLowerCase() };
    default:
      throw new InvalidMessage("host match is empty");
  }
}

/** `.example.com` for `[com, example]`. */
export function joinSuffix(reverseLabels: readonly string[]): string {
  if (reverseLabels.length === 0) throw new InvalidMessage("name suffix is empty");
  return `.${reverseLabels.toReversed().join(".")}`;
}

export function decodeHttpMatch(message: httpRoute.HttpRouteMatch): HttpMatch {
  return {
    kind: "http",
    method: message.method && decodeMethod(message.method),
    path: message.path && decodePath(message.path),
    headers: message.headers.map(decodeHeaderMatch),
    query: message.queryParams.map(decodeQueryMatch),
  };
}

export function decodeGrpcMatch(message: grpcRoute.GrpcRouteMatch): GrpcMatch {
  const rpc = required(message.rpc, "gRPC match");
  return {
    kind: "grpc",
    service: rpc.service,
    method: rpc.method,
    headers: message.headers.map(decodeHeaderMatch),
  };
}

/** What a gRPC rule without matches stands for: any call. An HTTP rule's empty list is any request. */
export const ANY_CALL: GrpcMatch = { kind: "grpc", service: "", method: "", headers: [] };

const METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "HEAD", "TRACE"];

export function decodeMethod(message: httpTypes.HttpMethod): string {
  const { type } = message;
  const method = type.case === "registered" ? METHODS[type.value] : type.value;
  // RFC 9110 §9.1: a method is a token.
  if (method === undefined || headerName(method) === undefined) throw new InvalidMessage("method is not legal");
  return method;
}

/** @throws InvalidMessage if the expression does not compile. */
export function decodePattern(source: string): Pattern {
  if (compilePattern(source) === undefined) throw new InvalidMessage(`regular expression is not valid: ${source}`);
  return { source };
}

function decodePath(message: httpRoute.PathMatch): PathMatch {
  const { kind } = message;
  switch (kind.case) {
    case "exact":
      return { kind: "exact", path: kind.value };
    case "prefix":
      return { kind: "prefix", prefix: kind.value.replace(/\/+$/, "") };
    case "regex":
      return { kind: "regex", pattern: decodePattern(kind.value) };
    default:
      throw new InvalidMessage("path match is empty");
  }
}

function decodeHeaderMatch(message: httpRoute.HeaderMatch): NamedMatch {
  const name = legalName(message.name).toLowerCase();
  switch (message.value.case) {
    case "exact":
      return { name, value: { kind: "exact", value: decodeHeaderValue(message.value.value) } };
    case "regex":
      return { name, value: { kind: "regex", pattern: decodePattern(message.value.value) } };
    default:
      throw new InvalidMessage(`match of header ${name} is empty`);
  }
}

function decodeQueryMatch(message: httpRoute.QueryParamMatch): NamedMatch {
  const { name, value } = message;
  if (name === "") throw new InvalidMessage("query parameter match has no name");
  switch (value.case) {
    case "exact":
      return { name, value: { kind: "exact", value: value.value } };
    case "regex":
      return { name, value: { kind: "regex", pattern: decodePattern(value.value) } };
    default:
      throw new InvalidMessage(`match of query parameter ${name} is empty`);
  }
}

export function decodeHeaderChanges(message: {
  readonly add?: httpTypes.Headers | undefined;
  readonly set?: httpTypes.Headers | undefined;
  readonly remove: readonly string[];
}): HeaderChanges {
  return {
    add: decodeHeaders(message.add),
    set: decodeHeaders(message.set),
    remove: message.remove.map((name) => legalName(name).toLowerCase()),
  };
}

function decodeHeaders(message: httpTypes.Headers | undefined): HeaderValue[] {
  return (message?.headers ?? []).map(({ name, value }) => ({
    name: legalName(name),
    value: decodeHeaderValue(value),
  }));
}

function legalName(name: string): string {
  if (headerName(name) === undefined) throw new InvalidMessage(`header name is not legal: ${JSON.stringify(name)}`);
  return name;
}

// RFC 9110 §5.5: no line ends, no NUL; the other controls are refused by Linkerd's http library as well.
const ILLEGAL_VALUE = /[\0-\x08\x0a-\x1f\x7f]/;

function decodeHeaderValue(bytes: Uint8Array): string {
  const value = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  if (ILLEGAL_VALUE.test(value)) throw new InvalidMessage("header value is not legal");
  return value;
}

export function decodeHttpFailure(message: httpRoute.HttpFailureInjector): Filter {
  return {
    kind: "http-failure",
    status: decodeStatus(message.status),
    message: message.message,
    ratio: decodeRatio(message.ratio),
  };
}

export function decodeGrpcFailure(message: grpcRoute.GrpcFailureInjector): Filter {
  // 16 is the last code that gRPC knows; the controller sends 500 for broken backends. 2 = Unknown.
  const code = message.code > 16 ? 2 : message.code;
  return { kind: "grpc-failure", code, message: message.message, ratio: decodeRatio(message.ratio) };
}

function decodeRatio(message: httpRoute.Ratio | undefined): Ratio {
  if (message === undefined) return { numerator: 1, denominator: 1 };
  const { numerator, denominator } = message;
  if (denominator === 0 || numerator > denominator) throw new InvalidMessage("ratio is not within 0 and 1");
  return { numerator, denominator };
}

/** A final status: with an informational one as answer the client would wait for another. */
function decodeStatus(status: number): number {
  if (status < 200 || status > 599) throw new InvalidMessage(`status ${status} is not legal`);
  return status;
}

// RFC 3986 §3.2.2: visible ASCII; names beyond it have their xn-- form.
const LEGAL_HOST = /^[!-~]+$/;
const ILLEGAL_IN_HOST = /[/?#@\\]/;

export function decodeRedirect(message: httpRoute.RequestRedirect): RedirectFilter {
  if (message.host !== "" && (!LEGAL_HOST.test(message.host) || ILLEGAL_IN_HOST.test(message.host)))
    throw new InvalidMessage("redirect host is not legal");
  if (message.port > 65_535) throw new InvalidMessage(`redirect port ${message.port} is not legal`);
  return {
    kind: "redirect",
    scheme: message.scheme && decodeScheme(message.scheme),
    host: message.host || undefined,
    port: message.port || undefined,
    path: message.path && decodePathModifier(message.path),
    status: message.status === 0 ? 301 : decodeStatus(message.status),
  };
}

function decodeScheme(message: httpTypes.Scheme): string {
  const { type } = message;
  const scheme = type.case === "registered" ? ["http", "https"][type.value] : type.value;
  // RFC 3986 §3.1
  if (scheme === undefined || !/^[A-Za-z][A-Za-z0-9+.-]*$/.test(scheme)) {
    throw new InvalidMessage("redirect scheme is not legal");
  }
  return scheme;
}

function decodePathModifier(message: httpRoute.PathModifier): RedirectFilter["path"] {
  const { replace } = message;
  if (replace.case === undefined) throw new InvalidMessage("redirect path is empty");
  // It goes into a header: no blanks, no controls, no line ends.
  if (!/^\/[^\s\0-\x20\x7f]*$/.test(replace.value)) throw new InvalidMessage("redirect path is not absolute");
  // RFC 3987 §3.1: what is not ASCII is written by its UTF-8 bytes.
  const path = Buffer.from(replace.value, "utf8")
    .toString("latin1")
    .replace(/[\x80-\xff]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  return replace.case === "full" ? { kind: "full", path } : { kind: "prefix", prefix: path };
}
