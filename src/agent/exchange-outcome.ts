import type { ProxyError, Reason, TimeLimit } from "../proxy/core/errors.ts";
import { type Exchange, isGrpc } from "../proxy/stack/index.ts";

/*
 * How an exchange ended, in the words of linkerd2-proxy's labels (telemetry.md §2.2). A failure is one thing to whoever
 * looks at the endpoint and another to whoever looks at the route: beneath both, what could not be reached has become an
 * answer (outbound.md §8.3, client rescue); everything else has no status there, and a name instead.
 */

const UNREACHED: ReadonlySet<Reason> = new Set([
  "connect-failed",
  "connect-timeout",
  "identity-mismatch",
  "identity-missing",
]);

/** An endpoint that was not reached or whose connection broke: a 502 or a 504 already at the endpoint. */
function isAnsweredBelow({ request, origProto }: Exchange, { reason, resetCode }: ProxyError): boolean {
  if (UNREACHED.has(reason)) return true;
  // A native HTTP/2 stream passes its reset on; HTTP/1, also where HTTP/2 carries it, hears 502.
  return reason === "endpoint-reset" && (resetCode === undefined || request.version !== "2" || origProto);
}

/** The status as the endpoint gave it, or as is made of not reaching it; undefined: there is none. */
export function endpointStatus(x: Exchange): number | undefined {
  const { failure, response } = x;
  if (x.outcome !== "refused" && response !== undefined) return response.status;
  if (failure === undefined || !isAnsweredBelow(x, failure)) return undefined;
  return isGrpc(x.request) ? 200 : failure.http;
}

/** `error` of the families that look at the endpoint, and at ServiceProfiles' routes. */
export function endpointError(x: Exchange): string {
  const { failure } = x;
  if (x.outcome === "complete" || x.outcome === "client-gone") return "";
  if (failure === undefined) return "unclassified";
  const began = x.outcome !== "refused" && x.response !== undefined;
  if (!began && isAnsweredBelow(x, failure)) return "";
  if (failure.reason === "response-timeout") return "timeout";
  if (failure.resetCode !== undefined) return `h2(${H2_REASONS[failure.resetCode] ?? failure.resetCode})`;
  return "unclassified";
}

// RFC 9113 §7
const H2_REASONS: readonly string[] = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
];

/** `http_status` of the families that look at the route: a policy's own answers are answers, a failure is none. */
export function routeStatus(x: Exchange): number | undefined {
  const reason = x.failure?.reason;
  if (x.outcome === "refused" && (reason === "redirected" || reason === "injected")) return x.response?.status;
  return endpointStatus(x);
}

/** `error` of the families that look at the route. */
export function routeError(x: Exchange): string {
  const { failure } = x;
  // Of a client that left in the middle of an answer Linkerd says no more either.
  if (x.outcome === "client-gone") return x.response === undefined ? "" : "UNKNOWN";
  if (failure === undefined || x.outcome === "complete") return "";
  if (routeStatus(x) !== undefined && x.outcome === "refused") return "";
  if (x.response === undefined && isAnsweredBelow(x, failure)) return "";
  switch (failure.reason) {
    case "failfast":
      return "FAIL_FAST";
    case "load-shed":
      return "LOAD_SHED";
    case "response-timeout":
      return TIMEOUTS[failure.limit ?? "headers"];
    case "endpoint-reset":
      return failure.resetCode === undefined ? "IO" : (RESETS[failure.resetCode] ?? "RESET");
    default:
      return UNREACHED.has(failure.reason) ? "IO" : "UNKNOWN";
  }
}

const TIMEOUTS: Readonly<Record<TimeLimit, string>> = {
  request: "REQUEST_TIMEOUT",
  headers: "RESPONSE_HEADERS_TIMEOUT",
  response: "RESPONSE_STREAM_TIMEOUT",
  idle: "IDLE_TIMEOUT",
};

// HTTP/2 error codes that have a name of their own there.
const RESETS: Readonly<Record<number, string>> = { 7: "REFUSED", 8: "CANCEL", 11: "ENHANCE_YOUR_CALM" };

/** `grpc_status` where it is a number: what the answer says, or 2 (Unknown) if it says nothing. */
export function grpcCode(x: Exchange): number {
  const { failure, grpcStatus } = x;
  if (grpcStatus !== undefined) return grpcStatus;
  return failure !== undefined && isAnsweredBelow(x, failure) ? failure.grpc : 2;
}
