import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import type {
  EgressNetwork,
  GrpcRouteObject,
  HttpRouteObject,
  RouteObject,
} from "../../../../src/lab/linkerd/objects.ts";
import { KINDS } from "../../../../src/lab/linkerd/store.ts";
import type { outbound } from "../../../../src/proto/index.ts";
import { askOutboundPolicy, labCluster } from "../../../support/lab-cluster.ts";
import { route, service } from "../../../support/mesh-objects.ts";

type World = ReturnType<typeof labCluster>;

const WEB_IP = 0x0a600001;

function world(port: Parameters<typeof service>[2] = {}, annotations: Record<string, string> = {}): World {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("web", 1, port, annotations));
  return cluster;
}

/** Through the wire, and past the agent's own judgement: what it calls invalid is a mistake of the lab. */
function ask(cluster: World, request: Parameters<typeof askOutboundPolicy>[1]) {
  const { message, decoded } = askOutboundPolicy(cluster, { sourceWorkload: '{"ns":"ns","pod":"p"}', ...request });
  expect(decoded.invalid).toBeUndefined();
  return message;
}

const at = (cluster: World, value = WEB_IP, port = 80, sourceWorkload = "ns:p") =>
  ask(cluster, { sourceWorkload, target: { case: "addr", value: { ip: { ip: { case: "ipv4", value } }, port } } });

function detected({ protocol }: outbound.OutboundPolicy): outbound.ProxyProtocol_Detect {
  if (protocol?.kind.case !== "detect") throw new Error(`not detect: ${protocol?.kind.case}`);
  return protocol.kind.value;
}

const names = (routes: readonly (outbound.HttpRoute | outbound.GrpcRoute | outbound.OpaqueRoute)[] = []) =>
  routes.map(({ metadata }) =>
    metadata?.kind.case === "resource" ? metadata.kind.value.name : `default.${metadata?.kind.value}`,
  );

test("a Service without routes: detection, and one balancer for everything", () => {
  const policy = at(world());
  const service = { group: "core", kind: "Service", name: "web", namespace: "ns", port: 80 };
  expect(policy.metadata?.kind).toMatchObject({ case: "resource", value: service });
  const { timeout, opaque, http1, http2 } = detected(policy);
  expect(timeout?.seconds).toBe(10n);
  expect([names(http1?.routes), names(http2?.routes), names(opaque?.routes)]).toEqual([
    ["default.http"],
    ["default.http"],
    ["default.opaq"],
  ]);
  const backend = {
    metadata: { kind: { case: "resource", value: service } },
    queue: { capacity: 100, failfastTimeout: { seconds: 3n } },
    kind: {
      case: "balancer",
      value: {
        discovery: { kind: { case: "dst", value: { path: "web.ns.svc.cluster.local:80" } } },
        load: { case: "peakEwma", value: { defaultRtt: { nanos: 30_000_000 }, decay: { seconds: 10n } } },
      },
    },
  };
  const [rule] = http1?.routes[0]?.rules ?? [];
  expect(rule).toMatchObject({
    matches: [{ path: { kind: { case: "prefix", value: "/" } } }],
    backends: { kind: { case: "firstAvailable", value: { backends: [{ backend }] } } },
    allowL5dRequestHeaders: false,
  });
  expect(rule?.timeouts).toBeUndefined();
  expect(rule?.retry).toBeUndefined();
  expect(http1?.failureAccrual).toBeUndefined();
});

test("by name it is the same, port 80 unless told", () => {
  const cluster = world();
  const byAddress = at(cluster);
  const names = ["web.ns.svc.cluster.local:80", "web.ns.svc.cluster.local", "web.ns.svc.cluster.local.:80"];
  // A port that is none is passed over.
  names.push("web.ns.svc.cluster.local:x");
  // Of the name only the first three labels count.
  for (const value of [...names, "web.ns.svc", "web.ns.svc.elsewhere"]) {
    expect(ask(cluster, { target: { case: "authority", value } })).toEqual(byAddress);
  }
});

test("by name neither Service nor port need exist: the balancer is told to ask for it all the same", () => {
  for (const value of ["gone.ns.svc.cluster.local:80", "web.ns.svc.cluster.local:81"]) {
    const { http1 } = detected(ask(world(), { target: { case: "authority", value } }));
    expect(http1?.routes[0]?.rules[0]?.backends?.kind).toMatchObject({
      value: {
        backends: [{ backend: { kind: { value: { discovery: { kind: { value: { path: value } } } } } } }],
      },
    });
  }
});

test("a port that the Service does not have is forbidden", () => {
  const { protocol } = at(world(), WEB_IP, 81);
  expect(protocol?.kind).toMatchObject({
    case: "opaque",
    value: {
      routes: [
        {
          metadata: { kind: { case: "default", value: "undefined-port" } },
          rules: [{ filters: [{ kind: { case: "forbidden" } }], backends: { kind: { case: "empty" } } }],
        },
      ],
    },
  });
});

test("out of the cluster: straight on", () => {
  const { http1, opaque } = detected(at(labCluster(), 0x08080808, 443));
  expect([names(http1?.routes), names(opaque?.routes)]).toEqual([
    ["default.egress-fallback"],
    ["default.egress-fallback"],
  ]);
  expect(http1?.routes[0]?.rules[0]?.backends?.kind).toMatchObject({
    case: "firstAvailable",
    value: {
      backends: [
        {
          backend: {
            kind: {
              case: "forward",
              value: { addr: { ip: { ip: { value: 0x08080808 } }, port: 443 } },
            },
          },
        },
      ],
    },
  });
});

test.each([
  [
    "a pod's address",
    { target: { case: "addr", value: { ip: { ip: { case: "ipv4", value: 0x0a010101 } }, port: 80 } } },
    status.NOT_FOUND,
  ],
  ["a foreign name", { target: { case: "authority", value: "example.com:80" } }, status.NOT_FOUND],
  ["an empty name", { target: { case: "authority", value: ":80" } }, status.INVALID_ARGUMENT],
  ["no target", {}, status.INVALID_ARGUMENT],
  [
    "port 0",
    { target: { case: "addr", value: { ip: { ip: { case: "ipv4", value: WEB_IP } }, port: 0 } } },
    status.INVALID_ARGUMENT,
  ],
  ["no address", { target: { case: "addr", value: { port: 80 } } }, status.INVALID_ARGUMENT],
  [
    "a bad workload",
    { sourceWorkload: "x", target: { case: "authority", value: "web.ns.svc.cluster.local" } },
    status.INVALID_ARGUMENT,
  ],
] as const)("%s is an error", (_, request, code) => {
  expect(() => ask(world(), request)).toThrow(expect.objectContaining({ code }));
});

test.each([
  [{ appProtocol: "http" }, "http1"],
  [{ appProtocol: "kubernetes.io/h2c" }, "http2"],
  [{ appProtocol: "linkerd.io/opaque" }, "opaque"],
  [{ appProtocol: "example.com/own" }, "opaque"],
  [{ port: 3306 }, "opaque"],
  // It outranks the list here, while the profile of the same port says opaque.
  [{ port: 3306, appProtocol: "http" }, "http1"],
] as const)("a port %j", (port, kind) => {
  expect(at(world(port), WEB_IP, "port" in port ? port.port : 80).protocol?.kind.case).toBe(kind);
});

test("the opaque annotation replaces the list; one name in it makes it empty", () => {
  const list = (text: string) => ({ "config.linkerd.io/opaque-ports": text });
  expect(at(world({}, list("80"))).protocol?.kind.case).toBe("opaque");
  expect(at(world({}, list("80,http"))).protocol?.kind.case).toBe("detect");
  expect(at(world({ port: 3306 }, list("")), WEB_IP, 3306).protocol?.kind.case).toBe("detect");
});

test("backends by weight, with filters; those that do not exist answer 500", () => {
  const cluster = world();
  cluster.store.put(KINDS.services, service("canary", 2));
  cluster.store.put<HttpRouteObject>(
    KINDS.httpRoutes,
    route("r", {
      rules: [
        {
          filters: [{ type: "ResponseHeaderModifier", responseHeaderModifier: { remove: ["server"] } }],
          backendRefs: [
            { name: "web", port: 80, weight: 9 },
            {
              name: "canary",
              port: 80,
              filters: [{ type: "RequestHeaderModifier", requestHeaderModifier: { set: [{ name: "v", value: "2" }] } }],
            },
            { name: "gone", port: 80, weight: 0 },
            { name: "web" },
            { group: "example.com", kind: "Bucket", name: "b" },
          ],
        },
      ],
    }),
  );
  const { http1, opaque } = detected(at(cluster));
  expect(names(opaque?.routes)).toEqual(["default.opaq"]);
  const [rule] = http1?.routes[0]?.rules ?? [];
  expect(rule?.filters).toMatchObject([{ kind: { case: "responseHeaderModifier", value: { remove: ["server"] } } }]);
  const kind = rule?.backends?.kind;
  const backends = kind?.case === "randomAvailable" ? kind.value.backends : [];
  expect(backends.map(({ weight }) => weight)).toEqual([9, 1, 0, 1, 1]);
  expect(backends.map(({ backend }) => backend?.backend?.kind.case)).toEqual([
    "balancer",
    "balancer",
    undefined,
    undefined,
    undefined,
  ]);
  expect(backends[1]?.backend?.filters).toMatchObject([{ kind: { case: "requestHeaderModifier" } }]);
  expect(backends[2]?.backend?.filters).toMatchObject([
    { kind: { case: "failureInjector", value: { status: 500, message: "Service not found gone" } } },
  ]);
});

test("a Service's annotations are for every route, a route's own replace them group by group", () => {
  const cluster = world(
    {},
    {
      "timeout.linkerd.io/request": "10s",
      "retry.linkerd.io/http": "5xx",
      "retry.linkerd.io/limit": "2",
      "balancer.linkerd.io/failure-accrual": "consecutive",
    },
  );
  const before = detected(at(cluster)).http2;
  const retry = {
    maxRetries: 2,
    maxRequestBytes: 65_536,
    conditions: { statusRanges: [{ start: 500, end: 599 }] },
    backoff: { minBackoff: { nanos: 25_000_000 }, maxBackoff: { nanos: 250_000_000 }, jitterRatio: 1 },
  };
  expect(before?.failureAccrual?.kind.case).toBe("consecutiveFailures");
  expect(before?.routes[0]?.rules[0]).toMatchObject({ timeouts: { request: { seconds: 10n } }, retry });
  const annotations = { "timeout.linkerd.io/idle": "1s" };
  const rules = [{ timeouts: { request: "5s" } }, {}];
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("r", { rules }, { annotations }));
  const after = detected(at(cluster)).http2?.routes[0]?.rules;
  expect(after?.[0]).toMatchObject({ timeouts: { request: { seconds: 5n }, idle: { seconds: 1n } }, retry });
  expect(after?.[1]?.timeouts?.request).toBeUndefined();
  // A route's annotation outranks its rules. A rule that says nothing readable, or zero, leaves it to the Service.
  const own = { annotations: { "timeout.linkerd.io/request": "3s" } };
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("r", { rules }, own));
  expect(detected(at(cluster)).http2?.routes[0]?.rules[0]?.timeouts).toMatchObject({ request: { seconds: 3n } });
  for (const request of ["1m30s", "0s"]) {
    cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("r", { rules: [{ timeouts: { request } }] }));
    expect(detected(at(cluster)).http2?.routes[0]?.rules[0]?.timeouts).toMatchObject({ request: { seconds: 10n } });
  }
  // A bad value drops the route, and with it the last one: the default is back.
  const bad = { annotations: { "retry.linkerd.io/limit": "x" } };
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("r", { rules }, bad));
  expect(names(detected(at(cluster)).http1?.routes)).toEqual(["default.http"]);
});

test("a bad annotation of a Service costs its own group only", () => {
  const policy = at(world({}, { "timeout.linkerd.io/request": "x", "retry.linkerd.io/limit": "2" }));
  const [rule] = detected(policy).http1?.routes[0]?.rules ?? [];
  expect(rule?.timeouts).toBeUndefined();
  expect(rule?.retry?.maxRetries).toBe(2);
});

test("routes are in order of age; those for other ports, or not accepted, do not count", () => {
  const cluster = world();
  const rules = [{}];
  const born = (creationTimestamp: string) => ({ creationTimestamp });
  const parent = { group: "", kind: "Service", name: "web", port: 80 };
  const put = (object: RouteObject<never>) => cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, object);
  put(route("b", { rules }, born("2026-01-02T00:00:00Z")));
  put(route("a", { rules }, born("2026-01-03T00:00:00Z")));
  put(route("c", { rules }));
  put(route("other", { rules, parentRefs: [{ ...parent, port: 81 }] }));
  put(route("server", { rules, parentRefs: [{ group: "policy.linkerd.io", kind: "Server", name: "web" }] }));
  const conditions = [{ type: "Accepted", status: "False" }];
  put({ ...route("refused", { rules }), status: { parents: [{ parentRef: parent, conditions }] } });
  const old = route("linkerd", { rules }, born("2026-01-01T00:00:00Z"));
  cluster.store.put<HttpRouteObject>(KINDS.policyHttpRoutes, { ...old, apiVersion: "policy.linkerd.io/v1beta3" });
  expect(names(detected(at(cluster)).http1?.routes)).toEqual(["linkerd", "b", "a", "c"]);
});

test("a consumer's routes count for its own workloads, beside the producer's", () => {
  const cluster = world();
  const parentRefs = [{ group: "", kind: "Service", name: "web", namespace: "ns" }];
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("producer", { rules: [{}] }));
  const away = route("consumer", { rules: [{}], parentRefs }, { namespace: "far" });
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, away);
  const seen = (workload: string) => names(detected(at(cluster, WEB_IP, 80, workload)).http1?.routes);
  expect(seen("ns:p")).toEqual(["producer"]);
  expect(seen("far:p")).toEqual(["consumer", "producer"]);
  expect(seen("else:p")).toEqual(["producer"]);
});

test("a consumer's backend without a namespace is one of the producer's", () => {
  const cluster = world();
  const parentRefs = [{ group: "", kind: "Service", name: "web", namespace: "ns" }];
  const rules = [{ backendRefs: [{ name: "web", port: 80 }] }];
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("r", { rules, parentRefs }, { namespace: "far" }));
  const [rule] = detected(at(cluster, WEB_IP, 80, "far:p")).http1?.routes[0]?.rules ?? [];
  const kind = rule?.backends?.kind;
  const [only] = kind?.case === "randomAvailable" ? kind.value.backends : [];
  const metadata = { kind: { case: "resource", value: { name: "web", namespace: "ns" } } };
  expect(only?.backend?.backend).toMatchObject({ metadata, kind: { case: "balancer" } });
});

test("a backend with a filter of an unknown kind answers 500, and the route stays", () => {
  const cluster = world();
  const backendRefs = [{ name: "web", port: 80, filters: [{ type: "RequestMirror" }] }];
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("r", { rules: [{ backendRefs }] }));
  const kind = detected(at(cluster)).http1?.routes[0]?.rules[0]?.backends?.kind;
  const [only] = kind?.case === "randomAvailable" ? kind.value.backends : [];
  expect(only?.backend?.filters).toMatchObject([{ kind: { case: "failureInjector", value: { status: 500 } } }]);
  expect(only?.backend?.backend?.metadata?.kind).toEqual({ case: "default", value: "invalid" });
});

test("penalties are for HTTP: an opaque port's balancer has none", () => {
  const annotations = { "balancer.alpha.linkerd.io/penalize-failures": "true" };
  const { http1, opaque } = detected(at(world({}, annotations)));
  const load = (backends: unknown) => backends as { kind: { value: { backends: { backend: object }[] } } };
  const penalty = { kind: { value: { load: { case: "penaltyPeakEwma" } } } };
  expect(load(http1?.routes[0]?.rules[0]?.backends).kind.value.backends[0]?.backend).toMatchObject(penalty);
  expect(load(opaque?.routes[0]?.rules[0]?.backends).kind.value.backends[0]?.backend).toMatchObject(penalty);
  const kind = at(world({ port: 3306 }, annotations), WEB_IP, 3306).protocol?.kind;
  const [only] = kind?.case === "opaque" ? kind.value.routes : [];
  const plain = { kind: { value: { load: { case: "peakEwma" } } } };
  expect(load(only?.rules[0]?.backends).kind.value.backends[0]?.backend).toMatchObject(plain);
});

test("Linkerd's own HTTPRoute confuses response with request modifiers", () => {
  const cluster = world();
  const filters = [{ type: "ResponseHeaderModifier", responseHeaderModifier: { remove: ["a"] } }];
  const object = { ...route("r", { rules: [{ filters }] }), apiVersion: "policy.linkerd.io/v1beta3" };
  cluster.store.put<HttpRouteObject>(KINDS.policyHttpRoutes, object);
  expect(detected(at(cluster)).http1?.routes[0]?.rules[0]?.filters[0]?.kind.case).toBe("requestHeaderModifier");
});

test("a GRPCRoute that searches instead of comparing is dropped whole", () => {
  const cluster = world();
  const rules = [{ matches: [{ method: { type: "RegularExpression", service: "a.*" } }, {}] }];
  cluster.store.put<GrpcRouteObject>(KINDS.grpcRoutes, route("g", { rules: rules as never }, {}, "GRPCRoute"));
  expect(at(cluster).protocol?.kind.case).toBe("detect");
});

test("one GRPCRoute makes the port gRPC, with codes as retry conditions", () => {
  const cluster = world({}, { "retry.linkerd.io/grpc": "unavailable" });
  const matches = [{ method: { service: "a.B", method: "C" }, headers: [{ name: "h", value: "v" }] }];
  const rules = [{ matches, backendRefs: [{ name: "gone", port: 1 }] }, {}];
  cluster.store.put<GrpcRouteObject>(KINDS.grpcRoutes, route("g", { rules: rules as never }, {}, "GRPCRoute"));
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("h", { rules: [{}] }));
  const kind = at(cluster).protocol?.kind;
  const [grpc, ...more] = kind?.case === "grpc" ? kind.value.routes : [];
  expect(more).toEqual([]);
  expect(grpc?.rules[0]).toMatchObject({
    matches: [{ rpc: { service: "a.B", method: "C" }, headers: [{ name: "h" }] }],
    retry: { maxRetries: 1, conditions: { unavailable: true } },
    backends: {
      kind: {
        value: { backends: [{ backend: { filters: [{ kind: { case: "failureInjector", value: { code: 500 } } }] } }] },
      },
    },
  });
  expect(grpc?.rules[1]?.backends?.kind.case).toBe("firstAvailable");
});

test("a TCPRoute with two rules does not count", () => {
  const cluster = world();
  cluster.store.put(KINDS.tcpRoutes, route("tcp", { rules: [{}, {}] }, {}, "TCPRoute"));
  expect(at(cluster).protocol?.kind.case).toBe("detect");
});

test("TLSRoutes and TCPRoutes", () => {
  const cluster = world();
  const tcp = route("tcp", { rules: [{ backendRefs: [{ name: "gone", port: 1 }] }] }, {}, "TCPRoute");
  cluster.store.put(KINDS.tcpRoutes, tcp);
  const opaque = at(cluster).protocol?.kind;
  expect(opaque?.case === "opaque" && names(opaque.value.routes)).toEqual(["tcp"]);
  expect(opaque).toMatchObject({
    value: {
      routes: [
        {
          rules: [
            {
              backends: {
                kind: {
                  value: {
                    backends: [
                      {
                        backend: {
                          filters: [{ kind: { case: "invalid", value: { message: "Service not found gone" } } }],
                        },
                      },
                    ],
                  },
                },
              },
            },
          ],
        },
      ],
    },
  });
  const tls = route("tls", { hostnames: ["*.a.test"], rules: [{}] }, {}, "TLSRoute");
  cluster.store.put(KINDS.tlsRoutes, tls);
  expect(at(cluster).protocol?.kind).toMatchObject({
    case: "tls",
    value: { routes: [{ snis: [{ match: { case: "suffix", value: { reverseLabels: ["test", "a"] } } }] }] },
  });
});

const egress = (name: string, namespace: string, spec: NonNullable<EgressNetwork["spec"]>): EgressNetwork => ({
  apiVersion: "policy.linkerd.io/v1alpha1",
  kind: "EgressNetwork",
  metadata: { name, namespace },
  spec,
});

test("EgressNetworks: of the own namespace alone, if it has any; then the most specific", () => {
  const cluster = labCluster();
  const put = (network: EgressNetwork) => cluster.store.put(KINDS.egressNetworks, network);
  const seen = (value: number) => {
    const kind = at(cluster, value, 443).metadata?.kind;
    return kind?.case === "resource" ? kind.value.name : undefined;
  };
  put(egress("global", "linkerd-egress", { trafficPolicy: "Deny" }));
  expect(seen(0x08080808)).toBe("global");
  put(egress("nine", "ns", { networks: [{ cidr: "9.0.0.0/8" }], trafficPolicy: "Deny" }));
  expect([seen(0x08080808), seen(0x09090909)]).toEqual([undefined, "nine"]);
  put(egress("all", "ns", { trafficPolicy: "Allow" }));
  put(egress("eight", "ns", { networks: [{ cidr: "8.0.0.0/8", except: ["8.9.0.0/16"] }], trafficPolicy: "Deny" }));
  expect(seen(0x08080808)).toBe("eight");
  expect(seen(0x08090000)).toBe("all");
});

test("a port of the opaque list is opaque out of the cluster, too", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.egressNetworks, egress("out", "ns", { trafficPolicy: "Deny" }));
  const kind = at(cluster, 0x08080808, 3306).protocol?.kind;
  expect(kind?.case === "opaque" && names(kind.value.routes)).toEqual(["default.tcp-egress-deny"]);
});

test("what an EgressNetwork allows is forwarded, what it denies is told so", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.egressNetworks, egress("out", "ns", { trafficPolicy: "Allow" }));
  const allowed = detected(at(cluster, 0x08080808, 443));
  expect(names(allowed.http1?.routes)).toEqual(["default.http-egress-allow"]);
  const allowedBackends = allowed.opaque?.routes[0]?.rules[0]?.backends?.kind;
  expect(allowedBackends).toMatchObject({ value: { backends: [{ backend: { kind: { case: "forward" } } }] } });
  cluster.store.put(KINDS.egressNetworks, egress("out", "ns", { trafficPolicy: "Deny" }));
  const parentRefs = [{ group: "policy.linkerd.io", kind: "EgressNetwork", name: "out" }];
  const backendRefs = [{ group: "policy.linkerd.io", kind: "EgressNetwork", name: "out" }];
  cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("r", { parentRefs, rules: [{ backendRefs }] }));
  const denied = detected(at(cluster, 0x08080808, 443));
  expect(names(denied.http1?.routes)).toEqual(["r", "default.http-egress-deny"]);
  expect(denied.http1?.routes[0]?.rules[0]?.backends?.kind).toMatchObject({
    value: { backends: [{ backend: { backend: { kind: { case: "forward" } } } }] },
  });
  expect(denied.http1?.routes[1]?.rules[0]?.filters).toMatchObject([
    { kind: { case: "failureInjector", value: { status: 403, message: "traffic not allowed" } } },
  ]);
  expect(denied.opaque?.routes[0]?.rules[0]?.filters).toMatchObject([{ kind: { case: "forbidden" } }]);
});
