import { describe, expect, it } from "vitest";
import { decodeOutboundPolicy } from "../../../../src/proxy/discovery/outbound-policy.ts";
import { type ConnectionRoute, INVALID_OUTBOUND, type OutboundPolicy } from "../../../../src/proxy/policy/index.ts";
import { matchPath } from "../../../../src/proxy/policy/match/index.ts";
import {
  type BackendInit,
  balancer,
  defaultMeta,
  type HttpRuleInit,
  httpRoutes,
  httpRule,
  only,
  opaqueRoutes,
  outboundPolicy,
  type PolicyInit,
  podAddr,
  seconds,
  service,
  servicePolicy,
} from "../../../support/mesh-messages.ts";

function decode(init: PolicyInit): OutboundPolicy {
  const { policy, invalid } = decodeOutboundPolicy(outboundPolicy(init));
  expect(invalid).toBeUndefined();
  return policy;
}

const rule = (more: HttpRuleInit) => decode(servicePolicy(httpRule(more))).http1?.routes[0]?.rules[0];
const withKind = (kind: object): PolicyInit => ({
  metadata: service(),
  protocol: { kind } as PolicyInit["protocol"] & object,
});
const backoff = { minBackoff: seconds(1), maxBackoff: seconds(60), jitterRatio: 0.5 };
const http1 = (value: object): PolicyInit =>
  withKind({ case: "http1", value: { ...httpRoutes(httpRule()), ...value } });

describe("outbound policy", () => {
  it("of a Service without routes", () => {
    const policy = decode(servicePolicy());
    expect(policy).toMatchObject({
      source: "api",
      kind: "detect",
      ref: { group: "core", kind: "Service", name: "web", namespace: "shop", port: 80 },
    });
    const backend = policy.http1?.routes[0]?.rules[0]?.distribution;
    expect(backend).toMatchObject({
      kind: "first-available",
      backends: [
        {
          weight: 1,
          backend: {
            dispatch: {
              kind: "balancer",
              path: "web.shop.svc.cluster.local:80",
              load: { kind: "peak-ewma", defaultRttMs: 30, decayMs: 10_000 },
            },
            failureAccrual: undefined,
          },
        },
      ],
    });
    expect(policy.opaque?.distribution).toEqual(backend);
    expect(structuredClone(policy)).toEqual(policy);
  });

  it.each(["http1", "http2", "grpc", "opaque", "tls"] as const)("of kind %s", (kind) => {
    const value =
      kind === "opaque" ? opaqueRoutes() : kind === "http1" || kind === "http2" ? httpRoutes(httpRule()) : {};
    const policy = decode(withKind({ case: kind, value }));
    expect(policy.kind).toBe(kind);
    expect(policy.http1 !== undefined).toBe(kind === "http1");
    expect(policy.http2 !== undefined).toBe(kind === "http2" || kind === "grpc");
    expect(policy.opaque !== undefined).toBe(kind === "opaque");
  });

  it("keeps the key of a backend that stays the same", () => {
    const keyOf = (init: PolicyInit) => {
      const distribution = decode(init).http1?.routes[0]?.rules[0]?.distribution;
      return distribution?.kind === "empty" ? "" : distribution?.backends[0]?.backend.key;
    };
    expect(keyOf(servicePolicy())).toBe(keyOf(servicePolicy(httpRule({ requestTimeout: seconds(1) }))));
    expect(keyOf(servicePolicy())).not.toBe(keyOf(servicePolicy(httpRule({ backends: only(balancer("b.c:80")) }))));
    expect(keyOf(http1({}))).not.toBe(
      keyOf(http1({ failureAccrual: { kind: { case: "consecutiveFailures", value: { maxFailures: 7, backoff } } } })),
    );
    expect(keyOf(servicePolicy())).not.toBe(keyOf({ ...servicePolicy(), metadata: service("other") }));
  });

  it("takes a prefix without its last slash: `/foo/` is `/foo` and what is below it", () => {
    const match = rule({ matches: [{ path: { kind: { case: "prefix", value: "/foo/" } } }] })?.matches[0];
    const path = match?.kind === "http" ? match.path : undefined;
    expect(["/foo", "/foo/", "/foo/bar", "/foobar", "/"].map((each) => matchPath(path, each) >= 0)).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it("reads timeouts; the old field is second, 0 is none", () => {
    const timeouts = { request: seconds(1), response: seconds(0.5), idle: seconds(2) };
    expect(rule({ timeouts, requestTimeout: seconds(9) })?.timeouts).toEqual({
      requestMs: 1_000,
      responseMs: 500,
      idleMs: 2_000,
      headersMs: undefined,
    });
    expect(rule({ requestTimeout: seconds(9) })?.timeouts.requestMs).toBe(9_000);
    expect(rule({ timeouts: { request: seconds(0) } })?.timeouts.requestMs).toBeUndefined();
  });

  it("reads retries", () => {
    const retry = {
      maxRetries: 2,
      maxRequestBytes: 65_536,
      conditions: { statusRanges: [{ start: 500, end: 599 }] },
      timeout: seconds(1),
      backoff: { minBackoff: seconds(0.025), maxBackoff: seconds(0.25), jitterRatio: 1 },
    };
    expect(rule({ retry })?.retry).toEqual({
      maxRetries: 2,
      maxRequestBytes: 65_536,
      statusRanges: [{ start: 500, end: 599 }],
      grpcCodes: [],
      timeoutMs: 1_000,
      backoff: { minMs: 25, maxMs: 250, jitter: 1 },
    });
    expect(rule({ allowL5dRequestHeaders: true })?.allowRequestHeaders).toBe(true);
  });

  it("reads gRPC routes", () => {
    const value = {
      routes: [
        {
          metadata: defaultMeta("grpc"),
          rules: [
            {
              backends: only(balancer()),
              filters: [{ kind: { case: "failureInjector", value: { code: 500, message: "m" } } }, {}],
              retry: {
                conditions: {
                  cancelled: true,
                  deadineExceeded: true,
                  resourceExhausted: true,
                  internal: true,
                  unavailable: true,
                },
              },
            },
            { backends: only(balancer()), matches: [{ rpc: { service: "s.S", method: "M" } }] },
          ],
        },
      ],
    };
    const rules = decode(withKind({ case: "grpc", value })).http2?.routes[0]?.rules;
    expect(rules?.[0]).toMatchObject({
      matches: [{ kind: "grpc", service: "", method: "" }],
      filters: [{ kind: "grpc-failure", code: 2, message: "m" }, { kind: "internal-error" }],
      retry: { grpcCodes: [1, 4, 8, 13, 14] },
      classify: { kind: "grpc" },
    });
    expect(rules?.[1]?.matches).toEqual([{ kind: "grpc", service: "s.S", method: "M", headers: [] }]);
  });

  it("reads forwards, weights and backends without dispatcher", () => {
    const queue = { failfastTimeout: seconds(3) };
    const backends = {
      kind: {
        case: "randomAvailable" as const,
        value: {
          backends: [
            {
              weight: 3,
              backend: {
                backend: { metadata: service(), queue, kind: { case: "forward" as const, value: podAddr("10.0.0.1") } },
              },
            },
            {
              weight: 0,
              backend: {
                backend: { metadata: service("gone"), queue },
                filters: [
                  {
                    kind: {
                      case: "failureInjector" as const,
                      value: { status: 500, message: "Service not found gone" },
                    },
                  },
                ],
              },
            },
          ],
        },
      },
    };
    expect(rule({ backends })?.distribution).toMatchObject({
      kind: "random-available",
      backends: [
        {
          weight: 3,
          backend: { dispatch: { kind: "forward", endpoint: { key: "10.0.0.1:8080", inboundPort: 4143 } } },
        },
        {
          weight: 0,
          backend: { dispatch: { kind: "fail", message: "backend for Service shop/gone has no dispatcher" } },
          filters: [{ kind: "http-failure", status: 500 }],
        },
      ],
    });
    expect(rule({ backends: { kind: { case: "empty", value: {} } } })?.distribution).toEqual({ kind: "empty" });
  });

  it("reads breakers, for balancers only", () => {
    const value = {
      successRateThreshold: 0.8,
      decay: seconds(10),
      minRequests: 5,
      maxConsecutiveFailures: 7,
      backoff,
    };
    const forward = {
      metadata: service(),
      queue: { failfastTimeout: seconds(3) },
      kind: { case: "forward", value: podAddr("10.0.0.1") },
    };
    const accrual = { kind: { case: "unified", value } };
    const backendOf = (backend: BackendInit) => {
      const distribution = decode(
        http1({ ...httpRoutes(httpRule({ backends: only(backend) })), failureAccrual: accrual }),
      ).http1?.routes[0]?.rules[0]?.distribution;
      return distribution?.kind === "empty" ? undefined : distribution?.backends[0]?.backend;
    };
    expect(backendOf(balancer())?.failureAccrual).toEqual({
      kind: "unified",
      successRateThreshold: 0.8,
      windowMs: 10_000,
      minRequests: 5,
      maxConsecutiveFailures: 7,
      backoff: { minMs: 1_000, maxMs: 60_000, jitter: 0.5 },
    });
    expect(backendOf(forward as BackendInit)?.failureAccrual).toBeUndefined();
  });

  it("fills in what a penalty load leaves out, and knows none on opaque connections", () => {
    const load = { case: "penaltyPeakEwma" as const, value: {} };
    const discovery = { kind: { case: "dst" as const, value: { path: "a.b:80" } } };
    const backend = balancer("", { kind: { case: "balancer", value: { discovery, load } } });
    const policy = decode({
      metadata: service(),
      protocol: {
        kind: {
          case: "detect",
          value: {
            timeout: seconds(10),
            http1: httpRoutes(httpRule({ backends: only(backend) })),
            http2: httpRoutes(),
            opaque: opaqueRoutes(backend),
          },
        },
      },
    });
    expect(policy.http1?.routes[0]?.rules[0]?.distribution).toMatchObject({
      backends: [
        {
          backend: {
            dispatch: {
              load: {
                kind: "penalty-peak-ewma",
                defaultRttMs: 30,
                decayMs: 10_000,
                penaltyMs: 5_000,
                maxRetryAfterMs: 300_000,
              },
            },
          },
        },
      ],
    });
    expect(policy.opaque?.distribution).toMatchObject({
      backends: [{ backend: { dispatch: { load: { kind: "peak-ewma" } } } }],
    });
  });

  it("reads TLS routes and connection filters", () => {
    const route = (snis: object[], filters: object[]) => ({
      metadata: defaultMeta("tls"),
      snis,
      rules: [{ backends: only(balancer()), filters }],
    });
    const value = {
      routes: [
        route(
          [
            { match: { case: "exact", value: "A.b" } },
            { match: { case: "suffix", value: { reverseLabels: ["com", "x"] } } },
          ],
          [{ kind: { case: "forbidden", value: {} } }],
        ),
        route([], [{ kind: { case: "invalid", value: { message: "m" } } }, {}]),
      ],
    };
    const tls = decode(withKind({ case: "tls", value })).tls as readonly ConnectionRoute[];
    expect(tls.map(({ snis, filters }) => [snis, filters])).toEqual([
      [
        [
          { kind: "exact", value: "A.b" },
          { kind: "suffix", value: ".x.com" },
        ],
        [{ kind: "forbidden" }],
      ],
      [
        [],
        [
          { kind: "invalid", message: "m" },
          { kind: "invalid", message: "unknown filter" },
        ],
      ],
    ]);
  });

  it("may have no opaque route: the connection is closed", () => {
    expect(decode(withKind({ case: "opaque", value: {} })).opaque).toBeUndefined();
  });

  describe("that makes no sense fails every request", () => {
    const withRule = (more: object): PolicyInit => servicePolicy(httpRule(more as HttpRuleInit));
    const withBackend = (more: object): PolicyInit =>
      withRule({ backends: only(balancer("a.b:80", more as BackendInit)) });
    const withLoad = (value: object): PolicyInit => withBackend({ kind: { case: "balancer", value } });
    const discovery = { kind: { case: "dst", value: { path: "a.b:80" } } };
    const withPath = (path: string): PolicyInit => withRule({ backends: only(balancer(path)) });
    const withRetry = (more: object): PolicyInit => withRule({ retry: { conditions: {}, ...more } });
    const accrual = (failureAccrual: object): PolicyInit => http1({ failureAccrual });
    const unified = (more: object): PolicyInit =>
      accrual({ kind: { case: "unified", value: { successRateThreshold: 0.5, decay: seconds(1), backoff, ...more } } });
    const withBackoff = (more: object): PolicyInit =>
      accrual({ kind: { case: "consecutiveFailures", value: { maxFailures: 1, backoff: { ...backoff, ...more } } } });
    const detect = { timeout: seconds(1), http1: {}, http2: {}, opaque: {} };
    const weighted = (weights: number[]): PolicyInit =>
      withRule({
        backends: {
          kind: {
            case: "randomAvailable",
            value: { backends: weights.map((weight) => ({ weight, backend: { backend: balancer() } })) },
          },
        },
      });
    const opaqueRule = { backends: only(balancer()) };
    const opaqueRoute = { metadata: defaultMeta("o"), rules: [opaqueRule] };

    it.each<[string, PolicyInit]>([
      ["no metadata", { ...servicePolicy(), metadata: undefined }],
      [
        "incomplete metadata",
        {
          ...servicePolicy(),
          metadata: { kind: { case: "resource", value: { group: "core", kind: "Service", name: "x" } } },
        },
      ],
      ["no protocol", { metadata: service() }],
      ["unknown protocol", { metadata: service(), protocol: {} }],
      ["no detect timeout", withKind({ case: "detect", value: { ...detect, timeout: undefined } })],
      ["no http1", withKind({ case: "detect", value: { ...detect, http1: undefined } })],
      ["no http2", withKind({ case: "detect", value: { ...detect, http2: undefined } })],
      ["no opaque", withKind({ case: "detect", value: { ...detect, opaque: undefined } })],
      ["no distribution", withRule({ backends: undefined })],
      ["unknown distribution", withRule({ backends: {} })],
      ["no backends", withRule({ backends: { kind: { case: "firstAvailable", value: {} } } })],
      ["no weighted backends", weighted([])],
      ["weights all 0", weighted([0, 0])],
      [
        "entry without backend",
        withRule({ backends: { kind: { case: "firstAvailable", value: { backends: [{}] } } } }),
      ],
      ["backend without metadata", withBackend({ metadata: undefined })],
      ["backend without queue", withBackend({ queue: undefined })],
      ["queue without timeout", withBackend({ queue: {} })],
      ["no discovery", withLoad({ load: { case: "penaltyPeakEwma", value: {} } })],
      ["no load", withLoad({ discovery })],
      ["half a load", withLoad({ discovery, load: { case: "peakEwma", value: { decay: seconds(1) } } })],
      ["path without port", withPath("a.b")],
      ["path with port 0", withPath("a.b:0")],
      ["empty path", withPath("")],
      ["forward without address", withBackend({ kind: { case: "forward", value: {} } })],
      [
        "forward to port 0",
        withBackend({
          kind: { case: "forward", value: podAddr("10.0.0.1", { addr: { ip: { ip: { case: "ipv4", value: 1 } } } }) },
        }),
      ],
      ["two opaque routes", withKind({ case: "opaque", value: { routes: [opaqueRoute, opaqueRoute] } })],
      [
        "two opaque rules",
        withKind({ case: "opaque", value: { routes: [{ ...opaqueRoute, rules: [opaqueRule, opaqueRule] }] } }),
      ],
      ["no TLS rule", withKind({ case: "tls", value: { routes: [{ metadata: defaultMeta("t") }] } })],
      ["empty SNI", withKind({ case: "tls", value: { routes: [{ ...opaqueRoute, snis: [{}] }] } })],
      ["retry without conditions", withRule({ retry: {} })],
      ["too many retries", withRetry({ maxRetries: 65_536 })],
      ["statuses upside down", withRetry({ conditions: { statusRanges: [{ start: 500, end: 400 }] } })],
      ["status 0", withRetry({ conditions: { statusRanges: [{ start: 0, end: 500 }] } })],
      ["status 600", withRetry({ conditions: { statusRanges: [{ start: 500, end: 600 }] } })],
      ["retry backoff without maximum", withRetry({ backoff: { minBackoff: seconds(1) } })],
      ["accrual without kind", accrual({})],
      ["accrual without backoff", accrual({ kind: { case: "consecutiveFailures", value: {} } })],
      ["backoff upside down", withBackoff({ minBackoff: seconds(61) })],
      ["backoff of nothing", withBackoff({ minBackoff: seconds(0), maxBackoff: seconds(0) })],
      ["jitter above 100", withBackoff({ jitterRatio: 101 })],
      ["jitter below 0", withBackoff({ jitterRatio: -0.1 })],
      ["jitter NaN", withBackoff({ jitterRatio: Number.NaN })],
      ["threshold above 1", unified({ successRateThreshold: 1.1 })],
      ["threshold NaN", unified({ successRateThreshold: Number.NaN })],
      ["window below 10 ms", unified({ decay: seconds(0.009) })],
      ["too many requests", unified({ minRequests: 1_000_001 })],
    ])("%s", (_, init) => {
      const { policy, invalid } = decodeOutboundPolicy(outboundPolicy(init));
      expect(policy).toBe(INVALID_OUTBOUND);
      expect(invalid).toMatch(/./);
    });

    it("but a small window is fine when the rate does not count", () => {
      expect(decode(unified({ successRateThreshold: 0, decay: seconds(0.001) })).source).toBe("api");
    });

    it("and so is a single weight of 0", () => {
      expect(decode(weighted([0])).source).toBe("api");
    });
  });
});
