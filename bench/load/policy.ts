import { parseCidr } from "../../src/proxy/core/address.ts";
import {
  type Authorization,
  defaultRef,
  type HttpMatch,
  type InboundPolicy,
  type InboundRoute,
  LOOPBACK_AUTHORIZATION,
} from "../../src/proxy/policy/index.ts";

const EVERYWHERE = ["0.0.0.0/0", "::/0"].flatMap((text) => {
  const net = parseCidr(text);
  return net === undefined ? [] : [{ net, except: [] }];
});

/**
 * A policy such as a Server with ten HTTPRoutes has: by path, method and header, each with an AuthorizationPolicy for five
 * accounts, the caller being the last of them; a rate limit that is never reached. The benchmark's `/` fits the last route.
 */
export function routedPolicy(caller: string): InboundPolicy {
  const others = ["a", "b", "c", "d"].map((name) => `${name}.mesh.serviceaccount.identity.linkerd.cluster.local`);
  const callers = (name: string): Authorization => ({
    ref: defaultRef(name),
    networks: EVERYWHERE,
    authentication: { kind: "identities", identities: [...others, caller], suffixes: [] },
  });
  const route = (name: string, prefix: string, more: Partial<HttpMatch> = {}): InboundRoute => ({
    ref: { ...defaultRef(name), group: "policy.linkerd.io", kind: "HTTPRoute" },
    hosts: [],
    authorizations: [callers(name)],
    rules: [
      {
        matches: [
          { kind: "http", method: undefined, path: { kind: "prefix", prefix }, headers: [], query: [], ...more },
        ],
        filters: [],
      },
    ],
  });
  const canary: HttpMatch["headers"] = [{ name: "x-canary", value: { kind: "exact", value: "yes" } }];
  return {
    source: "api",
    ref: { ...defaultRef("bench"), group: "policy.linkerd.io", kind: "server" },
    protocol: {
      kind: "detect",
      timeoutMs: 10_000,
      routes: [
        ...["orders", "carts", "users", "items", "stock", "prices"].map((name) => route(name, `/${name}`)),
        route("writes", "", { method: "POST" }),
        route("deletes", "", { method: "DELETE" }),
        route("canary", "", { headers: canary }),
        route("all", ""),
      ],
      rateLimits: { ref: undefined, total: 1_000_000, perIdentity: 1_000_000, overrides: [] },
    },
    authorizations: [LOOPBACK_AUTHORIZATION],
  };
}
