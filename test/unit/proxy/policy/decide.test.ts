import { describe, expect, it } from "vitest";
import { type Ip, parseCidr, parseIp } from "../../../../src/proxy/core/address.ts";
import {
  type Authorization,
  bestOf,
  CATCH_ALL_ROUTE,
  type Client,
  catchAllOutbound,
  decideConnection,
  decideInbound,
  decideOutbound,
  defaultInboundPolicy,
  defaultRef,
  type InboundPolicy,
  type InboundRoute,
  LOOPBACK_AUTHORIZATION,
  type OutboundHttp,
  type OutboundRoute,
  outboundHttp,
} from "../../../../src/proxy/policy/index.ts";
import { requestHead } from "../../../support/http1.ts";

const everywhere = [{ net: parseCidr("0.0.0.0/0") ?? never(), except: [] }];
function never(): never {
  throw new Error("not reached");
}
const allow = (name: string, identity?: string): Authorization => ({
  ref: defaultRef(name),
  networks: everywhere,
  authentication:
    identity === undefined ? { kind: "none" } : { kind: "identities", identities: [identity], suffixes: [] },
});
const route = (name: string, prefix: string, authorizations: Authorization[]): InboundRoute => ({
  ref: defaultRef(name),
  hosts: [],
  authorizations,
  rules: [
    {
      matches: [{ kind: "http", method: undefined, path: { kind: "prefix", prefix }, headers: [], query: [] }],
      filters: [],
    },
  ],
});
const policy = (protocol: InboundPolicy["protocol"], authorizations: Authorization[]): InboundPolicy => ({
  source: "api",
  ref: defaultRef("server"),
  protocol,
  authorizations: [...authorizations, LOOPBACK_AUTHORIZATION],
});
const http1 = (routes: InboundRoute[]) => ({ kind: "http1", routes, rateLimits: undefined }) as const;
const client: Client = { ip: parseIp("10.0.0.1") as Ip, tls: "identity", id: "a.b" };

describe("inbound requests", () => {
  it("need a route", () => {
    const decision = decideInbound(policy(http1([route("r", "/x", [])]), [allow("all")]), requestHead(), client);
    expect(decision.kind).toBe("not-found");
  });

  it("find none once the port has become opaque", () => {
    expect(decideInbound(policy({ kind: "opaque" }, [allow("all")]), requestHead(), client).kind).toBe("not-found");
    expect(decideInbound(policy({ kind: "tls" }, [allow("all")]), requestHead(), client).kind).toBe("not-found");
  });

  it("are authorized by the route first, then by the server", () => {
    const given = policy(http1([route("r", "/x", [allow("route", "a.b")]), CATCH_ALL_ROUTE]), [allow("server", "a.b")]);
    const byRoute = decideInbound(given, requestHead({ path: "/x" }), client);
    expect(byRoute).toMatchObject({
      kind: "permit",
      authorization: { ref: { name: "route" } },
      route: { ref: { name: "r" } },
    });
    const byServer = decideInbound(given, requestHead({ path: "/" }), client);
    expect(byServer).toMatchObject({ kind: "permit", authorization: { ref: { name: "server" } } });
  });

  it("are denied on the route that fits best, and on no other", () => {
    const given = policy(http1([route("closed", "/x", []), route("open", "", [allow("all")])]), []);
    expect(decideInbound(given, requestHead({ path: "/x/y" }), client)).toMatchObject({
      kind: "denied",
      route: { ref: { name: "closed" } },
    });
    expect(decideInbound(given, requestHead({ path: "/y" }), client).kind).toBe("permit");
  });

  it("from this host itself pass", () => {
    const local: Client = { ip: parseIp("127.0.0.1") as Ip, tls: "none", id: undefined };
    const decision = decideInbound(policy(http1([CATCH_ALL_ROUTE]), []), requestHead(), local);
    expect(decision).toMatchObject({ kind: "permit", authorization: { ref: { name: "localhost" } } });
  });
});

describe("inbound connections", () => {
  it.each<[InboundPolicy["protocol"], boolean]>([
    [{ kind: "opaque" }, true],
    [{ kind: "tls" }, true],
    [{ kind: "detect", timeoutMs: 1, routes: [], rateLimits: undefined }, true],
    [{ kind: "http1", routes: [], rateLimits: undefined }, false],
    [{ kind: "http2", routes: [], rateLimits: undefined }, false],
    [{ kind: "grpc", routes: [], rateLimits: undefined }, false],
  ])("$kind", (protocol, allowed) => {
    expect(decideConnection(policy(protocol, [allow("all")]), client).kind === "permit").toBe(allowed);
    expect(decideConnection(policy(protocol, []), client).kind).toBe("denied");
  });

  it("take nothing from routes", () => {
    const detect = {
      kind: "detect",
      timeoutMs: 1,
      routes: [route("r", "", [allow("all")])],
      rateLimits: undefined,
    } as const;
    expect(decideConnection(policy(detect, []), client).kind).toBe("denied");
  });
});

describe("a default policy", () => {
  it("permits with itself as the reason", () => {
    const given = defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 1, clusterNetworks: [] });
    expect(decideInbound(given, requestHead(), client)).toMatchObject({
      kind: "permit",
      authorization: { ref: { kind: "default", name: "all-unauthenticated" } },
    });
  });
});

describe("outbound requests", () => {
  const outbound = (name: string, method?: string): OutboundRoute => ({
    ...catchAllOutbound(defaultRef(name), { kind: "empty" }),
    condition: method === undefined ? { kind: "all", of: [] } : { kind: "method", method },
  });

  it("take the first profile route whose condition holds", () => {
    const http: OutboundHttp = {
      ...bestOf([outbound("put", "PUT"), outbound("get", "GET"), outbound("rest")]),
      select: "first",
    };
    const chosen = (method: string) => decideOutbound(http, requestHead({ method }))?.route.ref.name;
    expect([chosen("PUT"), chosen("GET"), chosen("POST")]).toEqual(["put", "get", "rest"]);
    expect(decideOutbound({ ...http, routes: [outbound("put", "PUT")] }, requestHead())).toBeUndefined();
  });

  it("hold conditions of every kind", () => {
    const pattern = { source: "", matches: (text: string) => text === "/x" };
    const holds = (condition: OutboundRoute["condition"]) => {
      const http: OutboundHttp = { ...bestOf([{ ...outbound("r"), condition }]), select: "first" };
      return decideOutbound(http, requestHead({ path: "/x?y" })) !== undefined;
    };
    expect(holds({ kind: "path", pattern })).toBe(true);
    expect(holds({ kind: "not", of: { kind: "path", pattern } })).toBe(false);
    expect(holds({ kind: "any", of: [] })).toBe(false);
    expect(
      holds({
        kind: "any",
        of: [
          { kind: "method", method: "PUT" },
          { kind: "path", pattern },
        ],
      }),
    ).toBe(true);
    expect(
      holds({
        kind: "all",
        of: [
          { kind: "method", method: "PUT" },
          { kind: "path", pattern },
        ],
      }),
    ).toBe(false);
  });

  it("keep being routed when the policy changes between the HTTP kinds", () => {
    const one = bestOf([outbound("one")]);
    const base = { source: "api", ref: defaultRef("s"), opaque: undefined, tls: [] } as const;
    const onlyHttp2 = { ...base, kind: "http2", http1: undefined, http2: one } as const;
    const onlyHttp1 = { ...base, kind: "http1", http1: one, http2: undefined } as const;
    expect(outboundHttp(onlyHttp2, "1.1")).toBe(one);
    expect(outboundHttp(onlyHttp1, "2")).toBe(one);
    expect(outboundHttp({ ...onlyHttp1, kind: "opaque", http1: undefined }, "2")).toBeUndefined();
  });
});
