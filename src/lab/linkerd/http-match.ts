import { type grpcRoute, type httpRoute, httpTypes, type tlsRoute } from "../../proto/index.ts";
import type { Init } from "./message.ts";
import type { GrpcMatch, HttpMatch, ValueMatch } from "./objects.ts";

export type HostMessage = Init<typeof httpRoute.HostMatchSchema>;
export type HttpMatchMessage = Init<typeof httpRoute.HttpRouteMatchSchema>;
export type GrpcMatchMessage = Init<typeof grpcRoute.GrpcRouteMatchSchema>;
type HeaderMessage = Init<typeof httpRoute.HeaderMatchSchema>;
type MethodMessage = Init<typeof httpTypes.HttpMethodSchema>;

const REGISTERED: Readonly<Record<string, httpTypes.HttpMethod_Registered>> = httpTypes.HttpMethod_Registered;

/** A number for the nine methods that have one, the name for all others. */
export function methodMessage(method: string): MethodMessage {
  const registered = Object.hasOwn(REGISTERED, method) ? REGISTERED[method] : undefined;
  return registered === undefined
    ? { type: { case: "unregistered", value: method } }
    : { type: { case: "registered", value: registered } };
}

/** `*.example.com` becomes the labels from the right; everything else is exact. */
export function hostMessage(hostname: string): HostMessage {
  return { match: nameMatch(hostname) };
}

/** As {@link hostMessage}, for the name in a TLS ClientHello. */
export function sniMessage(hostname: string): Init<typeof tlsRoute.SniMatchSchema> {
  return { match: nameMatch(hostname) };
}

function nameMatch(hostname: string) {
  return hostname.startsWith("*.")
    ? { case: "suffix" as const, value: { reverseLabels: hostname.slice(2).split(".").reverse() } }
    : { case: "exact" as const, value: hostname };
}

/** A match that says nothing of the path means every path (Gateway API). */
export function httpMatchMessage({ path, headers = [], queryParams = [], method }: HttpMatch): HttpMatchMessage {
  return {
    path: { kind: { case: pathKind(path?.type), value: path?.value ?? "/" } },
    headers: headers.map(headerMessage),
    queryParams: queryParams.map(({ type, name, value }) => ({
      name,
      value: { case: type === "RegularExpression" ? "regex" : "exact", value },
    })),
    ...(method !== undefined && { method: methodMessage(method) }),
  };
}

/** `rpc` is always there, its empty parts match anything. */
/** Whether Linkerd drops the whole route for it: gRPC methods are compared, not searched. */
export function isUnsupported({ method }: GrpcMatch): boolean {
  return method?.type === "RegularExpression";
}

export function grpcMatchMessage({ method, headers = [] }: GrpcMatch): GrpcMatchMessage {
  return {
    rpc: { service: method?.service ?? "", method: method?.method ?? "" },
    headers: headers.map(headerMessage),
  };
}

function pathKind(type: string | undefined): "exact" | "prefix" | "regex" {
  switch (type) {
    case "Exact":
      return "exact";
    case "RegularExpression":
      return "regex";
    default:
      return "prefix";
  }
}

function headerMessage({ type, name, value }: ValueMatch): HeaderMessage {
  return type === "RegularExpression"
    ? { name, value: { case: "regex", value } }
    : { name, value: { case: "exact", value: Buffer.from(value) } };
}
