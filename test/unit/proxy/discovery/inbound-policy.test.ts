import { describe, expect, it } from "vitest";
import { decodeInboundPolicy } from "../../../../src/proxy/discovery/inbound-policy.ts";
import { INVALID_INBOUND, type InboundPolicy, LOOPBACK_AUTHORIZATION } from "../../../../src/proxy/policy/index.ts";
import {
  type AuthzInit,
  anyone,
  defaultHttpRoute,
  detectServer,
  ipv4,
  meshed,
  resourceMeta,
  type ServerInit,
  seconds,
  server,
} from "../../../support/mesh-messages.ts";

function decode(init: ServerInit): InboundPolicy {
  const { policy, invalid } = decodeInboundPolicy(server(init));
  expect(invalid).toBeUndefined();
  return policy;
}

const http1 = (value: { routes?: ReturnType<typeof defaultHttpRoute>[]; localRateLimit?: object }): ServerInit =>
  detectServer({ protocol: { kind: { case: "http1", value } } });

describe("inbound policy", () => {
  it("of a default server", () => {
    const policy = decode(detectServer());
    expect(policy).toMatchObject({
      source: "api",
      ref: { group: "", kind: "default", name: "all-unauthenticated" },
      protocol: { kind: "detect", timeoutMs: 10_000, rateLimits: undefined },
    });
    expect(policy.authorizations).toHaveLength(2);
    expect(policy.authorizations.at(-1)).toBe(LOOPBACK_AUTHORIZATION);
  });

  it.each<[Record<string, string>, object]>([
    [
      { group: "policy.linkerd.io", kind: "server", name: "web" },
      { group: "policy.linkerd.io", kind: "server", name: "web" },
    ],
    [{ name: "web" }, { group: "policy.linkerd.io", kind: "server", name: "web" }],
    [{ name: "default:deny" }, { group: "", kind: "default", name: "deny" }],
    [{ name: "server:web" }, { group: "policy.linkerd.io", kind: "server", name: "web" }],
  ])("is named by labels %j", (labels, ref) => {
    expect(decode(detectServer({ labels })).ref).toMatchObject(ref);
  });

  it.each(["opaque", "tls"] as const)("of kind %s", (kind) => {
    expect(decode(detectServer({ protocol: { kind: { case: kind, value: {} } } })).protocol).toEqual({ kind });
  });

  it("without routes has one for everything", () => {
    const { protocol } = decode(http1({}));
    expect(protocol.kind === "http1" && protocol.routes.map(({ rules }) => rules)).toEqual([
      [{ matches: [], filters: [] }],
    ]);
    const grpc = decode(detectServer({ protocol: { kind: { case: "grpc", value: {} } } })).protocol;
    expect(grpc.kind === "grpc" && grpc.routes[0]?.rules[0]?.matches).toEqual([
      { kind: "grpc", service: "", method: "", headers: [] },
    ]);
  });

  it("says who may come in", () => {
    const suffix: AuthzInit = {
      networks: [{ net: { ip: ipv4("10.0.0.0"), prefixLen: 8 }, except: [{ ip: ipv4("10.1.0.0"), prefixLen: 16 }] }],
      authentication: {
        permit: {
          case: "meshTLS",
          value: {
            clients: {
              case: "identities",
              value: { identities: [{ name: "A.b" }], suffixes: [{ parts: [] }, { parts: ["c", "d"] }] },
            },
          },
        },
      },
      metadata: resourceMeta("AuthorizationPolicy", "x"),
    };
    const tls: AuthzInit = {
      ...anyone,
      authentication: { permit: { case: "meshTLS", value: { clients: { case: "unauthenticated", value: {} } } } },
    };
    const [first, second] = decode(detectServer({ authorizations: [suffix, tls] })).authorizations;
    expect(first).toMatchObject({
      ref: { kind: "AuthorizationPolicy", name: "x" },
      networks: [{ net: { prefix: 8 }, except: [{ prefix: 16 }] }],
      authentication: { kind: "identities", identities: ["A.b"], suffixes: ["", ".c.d"] },
    });
    expect(second?.authentication).toEqual({ kind: "mesh-tls" });
  });

  it("takes references without namespace, as the controller sends them", () => {
    const metadata = {
      kind: { case: "resource" as const, value: { group: "policy.linkerd.io", kind: "httproute", name: "r" } },
    };
    const { protocol } = decode(http1({ routes: [{ ...defaultHttpRoute(), metadata }] }));
    expect(protocol.kind === "http1" && protocol.routes[0]?.ref.name).toBe("r");
  });

  it("takes the labels of older authorizations", () => {
    const { metadata: _, ...rest } = anyone as { metadata: unknown };
    const authz = { ...rest, labels: { name: "old" } } as AuthzInit;
    expect(decode(detectServer({ authorizations: [authz] })).authorizations[0]?.ref.name).toBe("old");
  });

  it("carries rate limits; 0 is none, and unreadable clients are left out", () => {
    const localRateLimit = {
      metadata: resourceMeta("HTTPLocalRateLimitPolicy", "rl"),
      total: { requestsPerSecond: 100 },
      identity: { requestsPerSecond: 0 },
      overrides: [
        {
          limit: { requestsPerSecond: 5 },
          clients: { identities: [{ name: "a.b" }, { name: "not a name" }, { name: "spiffe://td/x" }] },
        },
        { limit: { requestsPerSecond: 0 }, clients: { identities: [{ name: "a.b" }] } },
        { limit: { requestsPerSecond: 5 }, clients: { identities: [] } },
      ],
    };
    const { protocol } = decode(http1({ localRateLimit }));
    expect(protocol.kind === "http1" && protocol.rateLimits).toMatchObject({
      ref: { name: "rl" },
      total: 100,
      perIdentity: undefined,
      overrides: [{ limit: 5, identities: ["a.b", "spiffe://td/x"] }],
    });
  });

  it("lets a filter that it does not know fail only the requests that meet it", () => {
    const route = { ...defaultHttpRoute(), rules: [{ filters: [{}] }] };
    const { protocol } = decode(http1({ routes: [route] }));
    expect(protocol.kind === "http1" && protocol.routes[0]?.rules[0]?.filters[0]?.kind).toBe("internal-error");
  });

  it("survives a trip through a message and a file", () => {
    const policy = decode(detectServer({ authorizations: [meshed("a.b")] }));
    expect(structuredClone(policy)).toEqual(policy);
    expect(JSON.parse(JSON.stringify(policy))).toEqual(JSON.parse(JSON.stringify(structuredClone(policy))));
  });

  describe("that makes no sense admits nobody", () => {
    const withAuthz = (more: object): ServerInit =>
      detectServer({ authorizations: [anyone, { ...(anyone as object), ...more } as AuthzInit] });
    const withRoute = (more: object): ServerInit => http1({ routes: [{ ...defaultHttpRoute(), ...more }] });
    const withMatch = (match: object): ServerInit => withRoute({ rules: [{ matches: [match] }] });
    const withFilter = (filter: object): ServerInit => withRoute({ rules: [{ filters: [{ kind: filter }] }] });
    const redirect = (value: object) => withFilter({ case: "redirect", value });
    const failure = (value: object) => withFilter({ case: "failureInjector", value });

    it.each<[string, ServerInit]>([
      ["no protocol", detectServer({ protocol: {} })],
      ["no labels", detectServer({ labels: {} })],
      ["no detect timeout", detectServer({ protocol: { kind: { case: "detect", value: {} } } })],
      [
        "negative timeout",
        detectServer({ protocol: { kind: { case: "detect", value: { timeout: { seconds: -1n } } } } }),
      ],
      ["no networks", withAuthz({ networks: [] })],
      ["network without address", withAuthz({ networks: [{ net: { prefixLen: 8 } }] })],
      ["prefix too long", withAuthz({ networks: [{ net: { ip: ipv4("10.0.0.0"), prefixLen: 33 } }] })],
      ["broken exception", withAuthz({ networks: [{ net: { ip: ipv4("10.0.0.0"), prefixLen: 8 }, except: [{}] }] })],
      ["no authentication", withAuthz({ authentication: undefined })],
      ["unknown authentication", withAuthz({ authentication: {} })],
      ["unknown clients", withAuthz({ authentication: { permit: { case: "meshTLS", value: {} } } })],
      ["authorization without name", withAuthz({ metadata: undefined })],
      ["empty metadata", withAuthz({ metadata: {} })],
      ["route without metadata", withRoute({ metadata: undefined })],
      ["empty host match", withRoute({ hosts: [{}] })],
      ["empty suffix", withRoute({ hosts: [{ match: { case: "suffix", value: {} } }] })],
      ["empty path match", withMatch({ path: {} })],
      ["bad expression", withMatch({ path: { kind: { case: "regex", value: "(" } } })],
      ["look-ahead", withMatch({ path: { kind: { case: "regex", value: "(?=a)" } } })],
      ["bad header name", withMatch({ headers: [{ name: "a b", value: { case: "regex", value: "" } }] })],
      ["empty header match", withMatch({ headers: [{ name: "a" }] })],
      ["query without name", withMatch({ queryParams: [{ value: { case: "exact", value: "" } }] })],
      ["empty query match", withMatch({ queryParams: [{ name: "q" }] })],
      ["empty method", withMatch({ method: {} })],
      ["bad method", withMatch({ method: { type: { case: "unregistered", value: "G T" } } })],
      ["ratio above one", failure({ status: 500, ratio: { numerator: 2, denominator: 1 } })],
      ["ratio of nothing", failure({ status: 500, ratio: { numerator: 0, denominator: 0 } })],
      ["bad status", failure({ status: 99 })],
      ["relative redirect", redirect({ path: { replace: { case: "full", value: "x" } } })],
      ["redirect into a header", redirect({ path: { replace: { case: "full", value: "/x\r\nSet-Cookie: a" } } })],
      ["redirect to a bad host", redirect({ host: "a\r\nb" })],
      ["redirect to a host beyond ASCII", redirect({ host: "b\u00fccher.example" })],
      ["redirect to a bad port", redirect({ port: 70_000 })],
      [
        "gRPC match without rpc",
        detectServer({
          protocol: {
            kind: {
              case: "grpc",
              value: { routes: [{ metadata: resourceMeta("GRPCRoute", "g"), rules: [{ matches: [{}] }] }] },
            },
          },
        }),
      ],
    ])("%s", (_, init) => {
      const { policy, invalid } = decodeInboundPolicy(server(init));
      expect(policy).toBe(INVALID_INBOUND);
      expect(invalid).toMatch(/./);
    });

    it("header values with line ends", () => {
      const set = { headers: [{ name: "a", value: Buffer.from("x\r\ny") }] };
      const init = withFilter({ case: "requestHeaderModifier", value: { set } });
      expect(decodeInboundPolicy(server(init)).policy).toBe(INVALID_INBOUND);
    });
  });

  it("reads every kind of match and filter", () => {
    const route = {
      ...defaultHttpRoute(),
      hosts: [
        { match: { case: "exact" as const, value: "A.b" } },
        { match: { case: "suffix" as const, value: { reverseLabels: ["com", "Example"] } } },
      ],
      authorizations: [meshed("a.b")],
      rules: [
        {
          matches: [
            {
              path: { kind: { case: "exact" as const, value: "/x" } },
              headers: [{ name: "X-A", value: { case: "exact" as const, value: Buffer.from("é", "latin1") } }],
              queryParams: [{ name: "Q", value: { case: "regex" as const, value: "a+" } }],
              method: { type: { case: "registered" as const, value: 3 as const } },
            },
            { path: { kind: { case: "prefix" as const, value: "/foo/" } } },
            { path: { kind: { case: "prefix" as const, value: "/" } } },
            { method: { type: { case: "unregistered" as const, value: "PURGE" } } },
          ],
          filters: [
            { kind: { case: "failureInjector" as const, value: { status: 503, message: "m" } } },
            {
              kind: {
                case: "requestHeaderModifier" as const,
                value: { add: { headers: [{ name: "A", value: Buffer.from("1") }] }, remove: ["B"] },
              },
            },
            {
              kind: {
                case: "redirect" as const,
                value: {
                  scheme: { type: { case: "registered" as const, value: 1 as const } },
                  host: "c.d",
                  port: 0,
                  path: { replace: { case: "prefix" as const, value: "/p" } },
                },
              },
            },
          ],
        },
      ],
    };
    const { protocol } = decode(http1({ routes: [route] as ReturnType<typeof defaultHttpRoute>[] }));
    const decoded = protocol.kind === "http1" ? protocol.routes[0] : undefined;
    expect(decoded?.hosts).toEqual([
      { kind: "exact", host: "a.b" },
      { kind: "suffix", suffix: ".example.com" },
    ]);
    expect(decoded?.authorizations).toHaveLength(1);
    expect(decoded?.rules[0]).toEqual({
      matches: [
        {
          kind: "http",
          method: "DELETE",
          path: { kind: "exact", path: "/x" },
          headers: [{ name: "x-a", value: { kind: "exact", value: "é" } }],
          query: [{ name: "Q", value: { kind: "regex", pattern: { source: "a+" } } }],
        },
        { kind: "http", method: undefined, path: { kind: "prefix", prefix: "/foo" }, headers: [], query: [] },
        { kind: "http", method: undefined, path: { kind: "prefix", prefix: "" }, headers: [], query: [] },
        { kind: "http", method: "PURGE", path: undefined, headers: [], query: [] },
      ],
      filters: [
        { kind: "http-failure", status: 503, message: "m", ratio: { numerator: 1, denominator: 1 } },
        { kind: "request-headers", changes: { add: [{ name: "A", value: "1" }], set: [], remove: ["b"] } },
        {
          kind: "redirect",
          scheme: "https",
          host: "c.d",
          port: undefined,
          path: { kind: "prefix", prefix: "/p" },
          status: 301,
        },
      ],
    });
  });

  it("redirects to a path beyond ASCII by its UTF-8 bytes", () => {
    const filter = {
      case: "redirect" as const,
      value: { path: { replace: { case: "full" as const, value: "/\u0142" } } },
    };
    const routes = [{ ...defaultHttpRoute(), rules: [{ filters: [{ kind: filter }] }] }];
    const { protocol } = decode(http1({ routes }));
    expect(protocol).toMatchObject({ routes: [{ rules: [{ filters: [{ path: { path: "/%C5%82" } }] }] }] });
  });

  it("waits no longer than told", () => {
    const value = { timeout: seconds(1.5) };
    expect(decode(detectServer({ protocol: { kind: { case: "detect", value } } })).protocol).toMatchObject({
      timeoutMs: 1_500,
    });
  });
});
