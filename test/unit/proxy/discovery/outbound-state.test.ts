import { describe, expect, it } from "vitest";
import { decodeOutboundPolicy } from "../../../../src/proxy/discovery/outbound-policy.ts";
import { combineOutbound } from "../../../../src/proxy/discovery/outbound-state.ts";
import { decodeProfile } from "../../../../src/proxy/discovery/profile.ts";
import { installOutboundPatterns } from "../../../../src/proxy/discovery/regex.ts";
import { decideOutbound, type OutboundPolicy, outboundHttp } from "../../../../src/proxy/policy/index.ts";
import { requestHead } from "../../../support/http1.ts";
import {
  httpRoutes,
  httpRule,
  IDENTITY,
  outboundPolicy,
  type PolicyInit,
  type ProfileInit,
  podAddr,
  profile,
  seconds,
  service,
  servicePolicy,
} from "../../../support/mesh-messages.ts";

const NAME = "web.shop.svc.cluster.local";

function combine(policy: PolicyInit | undefined, given: ProfileInit | undefined): OutboundPolicy {
  const decoded = policy && decodeOutboundPolicy(outboundPolicy(policy)).policy;
  const state = combineOutbound("10.0.0.1", 8080, decoded, given && decodeProfile(profile(given)));
  installOutboundPatterns(state.policy);
  return state.policy;
}

const choose = (policy: OutboundPolicy, path: string, method = "GET") => {
  const http = outboundHttp(policy, "1.1");
  return http && decideOutbound(http, requestHead({ path, method }));
};
const regex = (text: string) => ({ match: { case: "path" as const, value: { regex: text } } });
const method = (registered: 0 | 1 | 2) => ({
  match: { case: "method" as const, value: { type: { case: "registered" as const, value: registered } } },
});
const paths = (distribution: {
  kind: string;
  backends?: readonly { weight: number; backend: { dispatch: object } }[];
}) =>
  distribution.backends?.map(({ weight, backend }) => [
    weight,
    "path" in backend.dispatch ? backend.dispatch.path : backend.dispatch,
  ]);

describe("policy and profile", () => {
  it("policy alone", () => {
    expect(combine(servicePolicy(), undefined)).toMatchObject({ source: "api", kind: "detect" });
  });

  it("a profile without routes and targets changes nothing", () => {
    const policy = combine(servicePolicy(), { fullyQualifiedName: NAME });
    expect(policy).toEqual(combine(servicePolicy(), undefined));
  });

  it("neither: plaintext to where the client wanted", () => {
    expect(combine(undefined, undefined)).toMatchObject({
      source: "fallback",
      kind: "detect",
      opaque: {
        distribution: {
          backends: [{ backend: { dispatch: { endpoint: { key: "10.0.0.1:8080", identity: undefined } } } }],
        },
      },
    });
  });

  it("profile alone: exactly its endpoint, with identity", () => {
    const policy = combine(undefined, { endpoint: podAddr("10.0.0.1") });
    expect(policy).toMatchObject({
      source: "endpoint",
      opaque: { distribution: { backends: [{ backend: { dispatch: { endpoint: { identity: { id: IDENTITY } } } } }] } },
    });
    expect(choose(policy, "/")?.rule.distribution).toEqual(policy.opaque?.distribution);
  });

  it("profile alone without endpoint: the original destination", () => {
    expect(combine(undefined, {})).toMatchObject({
      source: "endpoint",
      opaque: { distribution: { backends: [{ backend: { dispatch: { endpoint: { key: "10.0.0.1:8080" } } } }] } },
    });
  });

  it("an opaque profile makes everything opaque", () => {
    const policy = combine(servicePolicy(), { opaqueProtocol: true, fullyQualifiedName: NAME });
    expect([policy.kind, policy.http1, policy.http2]).toEqual(["opaque", undefined, undefined]);
    expect(paths(policy.opaque?.distribution as never)).toEqual([[1, `${NAME}:80`]]);
  });

  it("an opaque profile of an HTTP policy balances on the name", () => {
    const http: PolicyInit = {
      metadata: service(),
      protocol: { kind: { case: "http1", value: httpRoutes(httpRule()) } },
    };
    const policy = combine(http, { opaqueProtocol: true, fullyQualifiedName: NAME });
    expect(paths(policy.opaque?.distribution as never)).toEqual([[1, `${NAME}:8080`]]);
    const nameless = combine(http, { opaqueProtocol: true });
    expect(nameless.opaque?.distribution).toMatchObject({
      backends: [{ backend: { dispatch: { endpoint: { key: "10.0.0.1:8080" } } } }],
    });
  });

  it("targets replace the policy's backends, on opaque connections too", () => {
    const given: ProfileInit = {
      fullyQualifiedName: `${NAME}.`,
      dstOverrides: [
        { authority: "v1.shop.svc.cluster.local:80", weight: 1 },
        { authority: "v2.shop.svc.cluster.local.:80", weight: 3, backendRef: service("v2") },
        { authority: "v3.shop.svc.cluster.local:80", weight: 0 },
        { authority: "no port", weight: 1 },
      ],
    };
    const expected = [
      [1, "v1.shop.svc.cluster.local:80"],
      [3, "v2.shop.svc.cluster.local:80"],
    ];
    const policy = combine(servicePolicy(), given);
    expect(paths(choose(policy, "/")?.rule.distribution as never)).toEqual(expected);
    expect(paths(policy.opaque?.distribution as never)).toEqual(expected);
    expect(choose(policy, "/")?.http.canonical).toBe(`${NAME}:8080`);
    expect(paths(combine(servicePolicy(), { ...given, opaqueProtocol: true }).opaque?.distribution as never)).toEqual(
      expected,
    );
  });

  it("targets whose weights are all 0 are none", () => {
    const given = { fullyQualifiedName: NAME, dstOverrides: [{ authority: "a.b:80", weight: 0 }] };
    expect(combine(servicePolicy(), given)).toEqual(combine(servicePolicy(), undefined));
  });

  it("routes replace the policy's, in list order, with a remainder", () => {
    const policy = combine(servicePolicy(httpRule({ timeouts: { request: seconds(9) } })), {
      fullyQualifiedName: NAME,
      retryBudget: { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: seconds(10) },
      routes: [
        { condition: regex("/api/.*"), isRetryable: true, timeout: seconds(1), metricsLabels: { route: "api" } },
        { condition: { match: { case: "all", value: { matches: [method(1), regex("/post")] } } } },
        { condition: regex("(") },
        { isRetryable: true },
      ],
    });
    const [api, post, rest] = [choose(policy, "/api/x?y"), choose(policy, "/post", "POST"), choose(policy, "/other")];
    expect(api?.route.labels).toEqual({ route: "api" });
    expect(api?.rule).toMatchObject({ budgetedRetry: true, timeouts: { headersMs: 1_000, requestMs: undefined } });
    expect(post?.rule).toMatchObject({ budgetedRetry: false, timeouts: { headersMs: undefined } });
    expect(post).not.toEqual(rest);
    expect(rest?.rule.classify).toEqual({ kind: "profile", classes: [] });
    expect(api?.http.routes).toHaveLength(3);
    expect(api?.http.retryBudget).toEqual({ ratio: expect.closeTo(0.2, 6), minRetriesPerSecond: 10, ttlMs: 10_000 });
    expect(paths(rest?.rule.distribution as never)).toEqual([[1, `${NAME}:8080`]]);
  });

  it.each([
    ["/a", "/a", true],
    ["/a", "/ab", false],
    ["/a", "/x/a", false],
    ["^/a", "/a", true],
    ["/a$", "/a", true],
    [" /a ", "/a", true],
    ["/a|/b", "/a/anything", true],
    ["/a|/b", "/anything/b", true],
    ["/a|/b", "/c", false],
  ])("a profile's expression %j and %s: %s", (expression, path, holds) => {
    const policy = combine(servicePolicy(), {
      fullyQualifiedName: NAME,
      routes: [{ condition: regex(expression), metricsLabels: { hit: "yes" } }],
    });
    expect(choose(policy, path)?.route.labels["hit"] === "yes").toBe(holds);
  });

  it.each([
    ["too short", { retryRatio: 0.2, ttl: seconds(0.5) }],
    ["too long", { retryRatio: 0.2, ttl: seconds(61) }],
    ["no ttl", { retryRatio: 0.2 }],
    ["negative ratio", { retryRatio: -1, ttl: seconds(10) }],
    ["huge ratio", { retryRatio: 1_001, ttl: seconds(10) }],
    ["NaN", { retryRatio: Number.NaN, ttl: seconds(10) }],
    ["huge minimum", { retryRatio: 0.2, ttl: seconds(10), minRetriesPerSecond: 2_147_483_648 }],
  ])("a budget that is %s means no retries", (_, retryBudget) => {
    const policy = combine(servicePolicy(), {
      fullyQualifiedName: NAME,
      retryBudget,
      routes: [{ condition: regex("/"), isRetryable: true }],
    });
    expect(choose(policy, "/")?.rule.budgetedRetry).toBe(false);
  });

  it("leaves out classes and conditions that make no sense", () => {
    const status = (min: number, max: number) => ({ match: { case: "status" as const, value: { min, max } } });
    const classOf = (condition: object) => ({ condition, isFailure: true });
    const decoded = decodeProfile(
      profile({
        routes: [
          {
            condition: { match: { case: "not", value: { match: { case: "any", value: { matches: [{}] } } } } },
            responseClasses: [
              classOf(status(500, 599)),
              classOf(status(0, 599)),
              classOf({ match: { case: "all", value: { matches: [status(1, 2)] } } }),
              classOf({ match: { case: "not", value: status(404, 404) } }),
              {},
            ],
          },
        ],
      }),
    );
    expect(decoded.routes[0]?.condition).toEqual({ kind: "not", of: { kind: "any", of: [] } });
    expect(decoded.routes[0]?.classes.map(({ condition }) => condition.kind)).toEqual(["status", "not"]);
  });
});
