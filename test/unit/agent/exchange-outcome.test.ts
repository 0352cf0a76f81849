import { describe, expect, test } from "vitest";
import {
  endpointError,
  endpointStatus,
  grpcCode,
  routeError,
  routeStatus,
} from "../../../src/agent/exchange-outcome.ts";
import { endpointLabels } from "../../../src/agent/labels.ts";
import { plainEndpoint } from "../../../src/proxy/core/endpoint.ts";
import { ProxyError } from "../../../src/proxy/core/errors.ts";
import { H, HeaderList } from "../../../src/proxy/core/header.ts";
import { type Exchange, grpcStatusOf } from "../../../src/proxy/stack/index.ts";

/** What the functions read of an exchange. */
function exchange(
  outcome: Exchange["outcome"],
  status: number | undefined,
  failure?: ProxyError,
  more: { version?: "1.1" | "2"; grpc?: boolean; origProto?: boolean; grpcStatus?: number } = {},
): Exchange {
  const headers = new HeaderList();
  if (more.grpc === true) headers.add(H.contentType, "application/grpc");
  return {
    outcome,
    failure,
    response: status === undefined ? undefined : { status },
    request: { version: more.grpc === true ? "2" : (more.version ?? "1.1"), headers },
    origProto: more.origProto === true,
    grpcStatus: more.grpcStatus,
  } as unknown as Exchange;
}

const reset = (code: number) => new ProxyError("endpoint-reset", undefined, { resetCode: code });
const late = (limit: "request" | "headers" | "response" | "idle") =>
  new ProxyError("response-timeout", undefined, { limit });

describe("at the endpoint", () => {
  test.each([
    ["an answer", exchange("complete", 503), 503, ""],
    ["an endpoint that is not there: 502", exchange("refused", 502, new ProxyError("connect-failed")), 502, ""],
    ["the same, as an attempt", exchange("endpoint-failed", undefined, new ProxyError("connect-failed")), 502, ""],
    ["one that is slow to connect: 504", exchange("refused", 504, new ProxyError("connect-timeout")), 504, ""],
    ["a connection that broke, to HTTP/1: 502", exchange("refused", 502, new ProxyError("endpoint-reset")), 502, ""],
    [
      "a reset of HTTP/1 carried in HTTP/2: 502",
      exchange("refused", 502, reset(8), { version: "2", origProto: true }),
      502,
      "",
    ],
    [
      "a reset of a stream",
      exchange("endpoint-failed", undefined, reset(8), { version: "2" }),
      undefined,
      "h2(CANCEL)",
    ],
    [
      "a stream that is refused",
      exchange("endpoint-failed", undefined, reset(7), { version: "2" }),
      undefined,
      "h2(REFUSED_STREAM)",
    ],
    ["an answer that does not begin in time", exchange("refused", 504, late("request")), undefined, "timeout"],
    ["an answer that does not end in time", exchange("endpoint-failed", 200, late("response")), 200, "timeout"],
    [
      "an answer that is cut short",
      exchange("endpoint-failed", 200, new ProxyError("endpoint-reset")),
      200,
      "unclassified",
    ],
    ["something else", exchange("refused", 500, new ProxyError("unexpected")), undefined, "unclassified"],
    ["a client that left", exchange("client-gone", undefined), undefined, ""],
  ])("%s", (_name, x, status, error) => {
    expect([endpointStatus(x), endpointError(x)]).toEqual([status, error]);
  });
});

describe("at the route", () => {
  test.each([
    ["an answer", exchange("complete", 200), 200, ""],
    [
      "an endpoint that is not there has become an answer",
      exchange("refused", 502, new ProxyError("connect-failed")),
      502,
      "",
    ],
    ["a redirect is an answer", exchange("refused", 302, new ProxyError("redirected")), 302, ""],
    ["an injected failure is an answer", exchange("refused", 418, new ProxyError("injected")), 418, ""],
    ["fail-fast", exchange("refused", 504, new ProxyError("failfast")), undefined, "FAIL_FAST"],
    ["too much", exchange("refused", 503, new ProxyError("load-shed")), undefined, "LOAD_SHED"],
    ["the whole took too long", exchange("refused", 504, late("request")), undefined, "REQUEST_TIMEOUT"],
    ["the head took too long", exchange("refused", 504, late("headers")), undefined, "RESPONSE_HEADERS_TIMEOUT"],
    ["the answer took too long", exchange("endpoint-failed", 200, late("response")), 200, "RESPONSE_STREAM_TIMEOUT"],
    ["silence", exchange("endpoint-failed", 200, late("idle")), 200, "IDLE_TIMEOUT"],
    ["a stream cancelled", exchange("endpoint-failed", undefined, reset(8), { version: "2" }), undefined, "CANCEL"],
    ["a stream refused", exchange("endpoint-failed", undefined, reset(7), { version: "2" }), undefined, "REFUSED"],
    [
      "a stream too many",
      exchange("endpoint-failed", undefined, reset(11), { version: "2" }),
      undefined,
      "ENHANCE_YOUR_CALM",
    ],
    ["another reset", exchange("endpoint-failed", undefined, reset(2), { version: "2" }), undefined, "RESET"],
    ["an answer cut short", exchange("endpoint-failed", 200, new ProxyError("endpoint-reset")), 200, "IO"],
    ["something else", exchange("refused", 500, new ProxyError("unexpected")), undefined, "UNKNOWN"],
    ["a client that left before the answer", exchange("client-gone", undefined), undefined, ""],
    ["a client that left in its middle", exchange("client-gone", 200), 200, "UNKNOWN"],
  ])("%s", (_name, x, status, error) => {
    expect([routeStatus(x), routeError(x)]).toEqual([status, error]);
  });
});

describe("gRPC", () => {
  test("says how it went by number, or Unknown if it says nothing", () => {
    expect(grpcCode(exchange("complete", 200, undefined, { grpc: true, grpcStatus: 5 }))).toBe(5);
    expect(grpcCode(exchange("complete", 200, undefined, { grpc: true }))).toBe(2);
    const gone = exchange("endpoint-failed", undefined, new ProxyError("connect-failed"), { grpc: true });
    expect([endpointStatus(gone), grpcCode(gone)]).toEqual([200, 14]);
  });

  test.each([
    ["0", 0],
    ["16", 16],
    ["17", 2],
    ["999999", 2],
    ["", undefined],
    ["-1", undefined],
    ["1e0", undefined],
    ["0x5", undefined],
    ["ok", undefined],
  ])("a status of %j is %s", (text, code) => {
    const headers = new HeaderList();
    headers.add(H.grpcStatus, text);
    expect(grpcStatusOf(headers)).toBe(code);
  });
});

test("an endpoint of this very workload", () => {
  const identity = { kind: "dns", id: "a.b", serverName: "a.b" } as const;
  const endpoint = { ...plainEndpoint({ ip: "192.0.2.7", port: 80 }), identity };
  expect(endpointLabels(endpoint, undefined, false)).toMatchObject({ tls: "true", server_id: "a.b" });
  const local = endpointLabels(endpoint, undefined, true);
  expect(local).toMatchObject({ tls: "no_identity", no_tls_reason: "loopback" });
  expect(local).not.toHaveProperty("server_id");
});
