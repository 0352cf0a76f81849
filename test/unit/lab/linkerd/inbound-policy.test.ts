import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { inboundPolicy, type ServerMessage } from "../../../../src/lab/linkerd/inbound-policy.ts";
import type { HttpRouteObject, Pod, RateLimitPolicy } from "../../../../src/lab/linkerd/objects.ts";
import { KINDS } from "../../../../src/lab/linkerd/store.ts";
import { inbound } from "../../../../src/proto/index.ts";
import { decodeInboundPolicy } from "../../../../src/proxy/discovery/inbound-policy.ts";
import { labCluster } from "../../../support/lab-cluster.ts";
import { externalWorkload, pod, server } from "../../../support/mesh-objects.ts";

const VM = { kind: "external-workload", namespace: "ns", name: "vm" } as const;
const WEB = { kind: "pod", namespace: "ns", name: "web" } as const;

/** A control plane that knows the ExternalWorkload `vm`. */
function world(annotations: Record<string, string> = {}, overrides: Parameters<typeof labCluster>[0] = {}) {
  const cluster = labCluster(overrides);
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.9", annotations));
  return cluster;
}

/** Through the wire, and past the agent's own judgement: what it calls invalid is a mistake of the lab. */
function checked(message: ServerMessage): inbound.Server {
  const bytes = toBinary(inbound.ServerSchema, create(inbound.ServerSchema, message));
  const read = fromBinary(inbound.ServerSchema, bytes);
  expect(decodeInboundPolicy(read).invalid).toBeUndefined();
  return read;
}

const policyOf = (cluster: ReturnType<typeof world>, port = 8080) => checked(inboundPolicy(cluster, VM, port));

test("without a Server: the default policy, detection, one route for everything", () => {
  const policy = policyOf(world());
  expect(policy.labels).toEqual({ group: "", kind: "default", name: "all-unauthenticated" });
  expect(policy.protocol?.kind).toMatchObject({
    case: "detect",
    value: {
      timeout: { seconds: 10n },
      httpRoutes: [
        {
          metadata: { kind: { case: "default", value: "default" } },
          authorizations: [],
          rules: [{ matches: [{ path: { kind: { case: "prefix", value: "/" } } }] }],
        },
      ],
    },
  });
  expect(policy.authorizations).toMatchObject([
    {
      networks: [{ net: { prefixLen: 0 } }, { net: { prefixLen: 0 } }],
      authentication: { permit: { case: "unauthenticated" } },
      metadata: { kind: { case: "default", value: "all-unauthenticated" } },
    },
  ]);
});

test.each([
  ["all-authenticated", 2, "meshTLS"],
  ["cluster-unauthenticated", 2, "unauthenticated"],
  ["cluster-authenticated", 2, "meshTLS"],
  ["audit", 2, "unauthenticated"],
] as const)("the annotation %s", (name, networks, permit) => {
  const policy = policyOf(world({ "config.linkerd.io/default-inbound-policy": name }));
  expect(policy.labels["name"]).toBe(name);
  expect(policy.authorizations).toHaveLength(1);
  const [authorization] = policy.authorizations;
  expect(authorization?.networks).toHaveLength(networks);
  expect(authorization?.networks[0]?.net?.prefixLen).toBe(name.startsWith("cluster-") ? 8 : 0);
  expect(authorization?.authentication?.permit.case).toBe(permit);
  if (authorization?.authentication?.permit.case === "meshTLS") {
    // Any DNS identity, and no URI.
    expect(authorization.authentication.permit.value.clients).toMatchObject({
      case: "identities",
      value: { identities: [], suffixes: [{ parts: [] }] },
    });
  }
});

test("deny admits nobody; a word that is no policy leaves the cluster's", () => {
  expect(policyOf(world({ "config.linkerd.io/default-inbound-policy": "deny" })).authorizations).toEqual([]);
  const cluster = world({ "config.linkerd.io/default-inbound-policy": "nonsense" }, { defaultInboundPolicy: "audit" });
  expect(policyOf(cluster).labels["name"]).toBe("audit");
});

test("opaque by the annotation alone, and by none of it if it holds a name", () => {
  const kind = (cluster: ReturnType<typeof world>, port: number) => policyOf(cluster, port).protocol?.kind.case;
  // Clients are told that 3306 is opaque: the two ends differ unless the annotation is written.
  expect(kind(world(), 3306)).toBe("detect");
  expect(kind(world({ "config.linkerd.io/opaque-ports": "3306" }), 3306)).toBe("opaque");
  expect(kind(world({ "config.linkerd.io/opaque-ports": "3306,http" }), 3306)).toBe("detect");
});

test("ports that require identity", () => {
  const cluster = world({ "config.linkerd.io/proxy-require-identity-inbound-ports": "8080" });
  expect(policyOf(cluster, 8080).labels["name"]).toBe("all-authenticated");
  expect(policyOf(cluster, 8081).labels["name"]).toBe("all-unauthenticated");
});

test("what does not exist, or cannot be decoded, is not found", () => {
  const cluster = world();
  const gone = expect.objectContaining({ code: status.NOT_FOUND, message: "unknown server" });
  expect(() => inboundPolicy(cluster, { ...VM, name: "x" }, 80)).toThrow(gone);
  expect(() => inboundPolicy(cluster, { ...VM, kind: "pod" }, 80)).toThrow(gone);
  // A pod outside of every mesh is not watched.
  cluster.store.put(KINDS.pods, pod("plain", "10.0.0.8", { labels: { app: "plain" } }));
  expect(() => inboundPolicy(cluster, { ...VM, kind: "pod", name: "plain" }, 80)).toThrow(gone);
  const base = externalWorkload("vm", "10.0.0.9");
  cluster.store.put<typeof base>(KINDS.externalWorkloads, { ...base, status: {} });
  expect(() => inboundPolicy(cluster, VM, 80)).toThrow(gone);
  cluster.store.put<typeof base>(KINDS.externalWorkloads, { ...base, spec: { ...base.spec, workloadIPs: [{}] } });
  expect(() => inboundPolicy(cluster, VM, 80)).toThrow(gone);
  for (const port of [0, 65_536]) {
    expect(() => inboundPolicy(cluster, VM, port)).toThrow(expect.objectContaining({ code: status.INVALID_ARGUMENT }));
  }
});

test("a pod's HTTP probes have a route that lets everybody in", () => {
  const cluster = labCluster();
  const base = pod("web", "10.1.0.1");
  const [container] = base.spec?.containers ?? [];
  const probed: Pod = {
    ...base,
    spec: {
      ...base.spec,
      containers: [
        {
          name: "app",
          ...container,
          readinessProbe: { httpGet: { path: "/ready", port: "http" } },
          livenessProbe: { httpGet: { path: "/live", port: 8080 } },
          startupProbe: { httpGet: { path: "/elsewhere", port: 9999 } },
        },
      ],
    },
  };
  cluster.store.put<Pod>(KINDS.pods, probed);
  const { protocol } = checked(inboundPolicy(cluster, WEB, 8080));
  const routes = protocol?.kind.case === "detect" ? protocol.kind.value.httpRoutes : [];
  expect(routes.map(({ metadata }) => metadata?.kind.value)).toEqual(["default", "probe"]);
  expect(routes[1]?.authorizations).toMatchObject([{ authentication: { permit: { case: "unauthenticated" } } }]);
  expect(routes[1]?.rules[0]?.matches.map(({ path }) => path?.kind)).toMatchObject([
    { case: "exact", value: "/live" },
    { case: "exact", value: "/ready" },
  ]);
});

test.each([
  ["unknown", "detect"],
  ["HTTP/1", "http1"],
  ["HTTP/2", "http2"],
  ["gRPC", "grpc"],
  ["opaque", "opaque"],
  ["TLS", "tls"],
] as const)("a Server of protocol %s", (proxyProtocol, kind) => {
  const cluster = world();
  cluster.store.put(KINDS.servers, server("s", "vm", "http", { proxyProtocol }));
  const policy = policyOf(cluster);
  expect(policy.protocol?.kind.case).toBe(kind);
  expect(policy.labels).toEqual({ group: "policy.linkerd.io", kind: "server", name: "s" });
  // `accessPolicy` is `deny` unless told.
  expect(policy.authorizations).toEqual([]);
  expect(policyOf(cluster, 8081).labels["kind"]).toBe("default");
});

test("a Server's access policy is added; of two Servers the older one rules", () => {
  const cluster = world();
  const young = server("a", "vm", 8080, { accessPolicy: "audit" });
  const metadata = { ...young.metadata, creationTimestamp: "2026-02-01T00:00:00Z" };
  cluster.store.put<typeof young>(KINDS.servers, { ...young, metadata });
  expect(policyOf(cluster).authorizations[0]?.metadata?.kind.value).toBe("audit");
  cluster.store.put(KINDS.servers, server("old", "vm", 8080));
  expect(policyOf(cluster).labels["name"]).toBe("old");
});

const authorizationPolicy = (name: string, targetRef: object, ...refs: object[]) => ({
  apiVersion: "policy.linkerd.io/v1alpha1",
  kind: "AuthorizationPolicy",
  metadata: { name, namespace: "ns", creationTimestamp: `2026-01-01T00:00:0${refs.length}Z` },
  spec: { targetRef, requiredAuthenticationRefs: refs },
});
const toServer = { group: "policy.linkerd.io", kind: "Server", name: "s" };
const byTls = { group: "policy.linkerd.io", kind: "MeshTLSAuthentication", name: "friends" };
const byNetwork = { group: "policy.linkerd.io", kind: "NetworkAuthentication", name: "office" };

function put(
  cluster: ReturnType<typeof world>,
  type: (typeof KINDS)[keyof typeof KINDS],
  kind: string,
  spec: object,
  name: string,
) {
  cluster.store.put(type, {
    apiVersion: `${type.group}/${type.version}`,
    kind,
    metadata: { name, namespace: "ns" },
    spec,
  } as never);
}

test("AuthorizationPolicies: identities, accounts, namespaces, networks", () => {
  const cluster = world();
  cluster.store.put(KINDS.servers, server("s", "vm", 8080));
  const tls = {
    identities: ["a.test", "*.b.test", "spiffe://t/x"],
    identityRefs: [
      { kind: "ServiceAccount", name: "web" },
      { kind: "Namespace", name: "far" },
    ],
  };
  put(cluster, KINDS.meshTlsAuthentications, "MeshTLSAuthentication", tls, "friends");
  const networks = [{ cidr: "10.1.0.0/16", except: ["10.1.2.0/24"] }];
  put(cluster, KINDS.networkAuthentications, "NetworkAuthentication", { networks }, "office");
  const both = authorizationPolicy("both", toServer, byTls, byNetwork);
  const account = authorizationPolicy(
    "account",
    { kind: "Namespace", name: "ns" },
    { kind: "ServiceAccount", name: "x", namespace: "y" },
  );
  const anybody = authorizationPolicy("anybody", toServer);
  const lost = authorizationPolicy("lost", toServer, { ...byTls, name: "nobody" }, byTls, byTls);
  const other = authorizationPolicy("other", { ...toServer, name: "other" });
  for (const policy of [both, account, anybody, lost, other]) cluster.store.put(KINDS.authorizationPolicies, policy);

  const { authorizations } = policyOf(cluster);
  // Oldest first; `lost` requires what does not exist, and so lets nobody in.
  expect(authorizations.map(({ labels }) => labels["name"])).toEqual(["anybody", "account", "both"]);
  expect(authorizations[0]).toMatchObject({
    networks: [{ net: { prefixLen: 0 } }, { net: { prefixLen: 0 } }],
    authentication: { permit: { case: "unauthenticated" } },
  });
  const identities = authorizations.map(({ authentication }) => {
    const permit = authentication?.permit;
    return permit?.case === "meshTLS" && permit.value.clients.case === "identities"
      ? permit.value.clients.value
      : undefined;
  });
  expect(identities[1]?.identities.map(({ name }) => name)).toEqual([
    "x.y.serviceaccount.identity.linkerd.cluster.local",
  ]);
  expect(identities[2]?.identities.map(({ name }) => name)).toEqual([
    "a.test",
    "spiffe://t/x",
    "web.ns.serviceaccount.identity.linkerd.cluster.local",
  ]);
  expect(identities[2]?.suffixes.map(({ parts }) => parts.join("."))).toEqual([
    "b.test",
    "far.serviceaccount.identity.linkerd.cluster.local",
  ]);
  expect(authorizations[2]?.networks).toMatchObject([{ net: { prefixLen: 16 }, except: [{ prefixLen: 24 }] }]);
});

test("any identity is the empty suffix", () => {
  const cluster = world();
  cluster.store.put(KINDS.servers, server("s", "vm", 8080));
  put(cluster, KINDS.meshTlsAuthentications, "MeshTLSAuthentication", { identities: ["*"] }, "friends");
  cluster.store.put(KINDS.authorizationPolicies, authorizationPolicy("p", toServer, byTls));
  expect(policyOf(cluster).authorizations[0]?.authentication?.permit).toMatchObject({
    value: { clients: { value: { identities: [], suffixes: [{ parts: [] }] } } },
  });
});

test("ServerAuthorizations: no networks mean those of the cluster", () => {
  const cluster = world();
  cluster.store.put(KINDS.servers, server("s", "vm", 8080));
  const to = { name: "s" };
  put(
    cluster,
    KINDS.serverAuthorizations,
    "ServerAuthorization",
    { server: to, client: { unauthenticated: true } },
    "a",
  );
  const tls = { meshTLS: { unauthenticatedTLS: true }, networks: [{ cidr: "192.168.0.0/16" }] };
  put(cluster, KINDS.serverAuthorizations, "ServerAuthorization", { server: { selector: {} }, client: tls }, "b");
  const named = { meshTLS: { identities: ["*", "a.test"], serviceAccounts: [{ name: "web" }] } };
  put(cluster, KINDS.serverAuthorizations, "ServerAuthorization", { server: to, client: named }, "c");
  put(cluster, KINDS.serverAuthorizations, "ServerAuthorization", { server: { name: "x" }, client: named }, "d");
  const { authorizations } = policyOf(cluster);
  expect(authorizations.map(({ networks }) => networks.map(({ net }) => net?.prefixLen))).toEqual([
    [8, 8],
    [16],
    [8, 8],
  ]);
  expect(authorizations[1]?.authentication?.permit).toMatchObject({ value: { clients: { case: "unauthenticated" } } });
  const web = { name: "web.ns.serviceaccount.identity.linkerd.cluster.local" };
  expect(authorizations[2]?.authentication?.permit).toMatchObject({
    value: { clients: { value: { suffixes: [{ parts: [] }], identities: [web, { name: "a.test" }] } } },
  });
});

const route = (name: string, spec: object): HttpRouteObject => ({
  apiVersion: "policy.linkerd.io/v1beta3",
  kind: "HTTPRoute",
  metadata: { name, namespace: "ns" },
  spec: { parentRefs: [{ group: "policy.linkerd.io", kind: "Server", name: "s" }], ...spec },
});

test("routes of a Server replace the default one, and carry their own authorizations", () => {
  const cluster = world();
  cluster.store.put(KINDS.servers, server("s", "vm", 8080, { proxyProtocol: "HTTP/1" }));
  const modifier = { add: [{ name: "x", value: "y" }] };
  cluster.store.put(
    KINDS.policyHttpRoutes,
    route("r", {
      hostnames: ["a.test", "*.b.test"],
      rules: [
        {
          matches: [
            {
              path: { type: "RegularExpression", value: "/a.*" },
              method: "POST",
              headers: [{ name: "h", value: "v" }],
              queryParams: [{ type: "RegularExpression", name: "q", value: "." }],
            },
          ],
          filters: [
            { type: "RequestHeaderModifier", requestHeaderModifier: modifier },
            { type: "ResponseHeaderModifier", responseHeaderModifier: modifier },
            {
              type: "RequestRedirect",
              requestRedirect: {
                scheme: "https",
                port: 8443,
                statusCode: 302,
                path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/b" },
              },
            },
          ],
        },
      ],
    }),
  );
  cluster.store.put(KINDS.policyHttpRoutes, route("mirrored", { rules: [{ filters: [{ type: "RequestMirror" }] }] }));
  const target = { group: "policy.linkerd.io", kind: "HTTPRoute", name: "r" };
  cluster.store.put(KINDS.authorizationPolicies, authorizationPolicy("p", target));
  const { protocol, authorizations } = policyOf(cluster);
  const routes = protocol?.kind.case === "http1" ? protocol.kind.value.routes : [];
  expect(authorizations).toEqual([]);
  // A filter that nobody knows drops the whole route.
  expect(routes).toHaveLength(1);
  expect(routes[0]).toMatchObject({
    metadata: { kind: { value: { group: "policy.linkerd.io", kind: "HTTPRoute", name: "r", namespace: "" } } },
    hosts: [
      { match: { case: "exact", value: "a.test" } },
      { match: { case: "suffix", value: { reverseLabels: ["test", "b"] } } },
    ],
    authorizations: [{ labels: { name: "p" } }],
    rules: [
      {
        matches: [
          {
            path: { kind: { case: "regex", value: "/a.*" } },
            method: { type: { case: "registered", value: 1 } },
            headers: [{ name: "h", value: { case: "exact" } }],
            queryParams: [{ name: "q", value: { case: "regex", value: "." } }],
          },
        ],
        // The response modifier is dropped: there is none inbound.
        filters: [
          { kind: { case: "requestHeaderModifier" } },
          {
            kind: {
              case: "redirect",
              value: { port: 8443, status: 302, path: { replace: { case: "prefix", value: "/b" } } },
            },
          },
        ],
      },
    ],
  });
});

test("a Server's rate limit", () => {
  const cluster = world();
  cluster.store.put(KINDS.servers, server("s", "vm", 8080));
  cluster.store.put<RateLimitPolicy>(KINDS.rateLimits, {
    apiVersion: "policy.linkerd.io/v1alpha1",
    kind: "HTTPLocalRateLimitPolicy",
    metadata: { name: "limit", namespace: "ns" },
    spec: {
      targetRef: toServer,
      total: { requestsPerSecond: 100 },
      identity: { requestsPerSecond: 10 },
      overrides: [{ requestsPerSecond: 50, clientRefs: [{ kind: "ServiceAccount", name: "web" }] }],
    },
  });
  const { protocol } = policyOf(cluster);
  expect(protocol?.kind.case === "detect" && protocol.kind.value.httpLocalRateLimit).toMatchObject({
    total: { requestsPerSecond: 100 },
    identity: { requestsPerSecond: 10 },
    overrides: [
      {
        limit: { requestsPerSecond: 50 },
        clients: { identities: [{ name: "web.ns.serviceaccount.identity.linkerd.cluster.local" }] },
      },
    ],
  });
});
