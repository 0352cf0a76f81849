/**
 * Routes of every kind from object to connection: what the lab's control plane makes of TLSRoutes, TCPRoutes,
 * EgressNetworks and mirrored Services, read as the agent reads it, and carried by the running proxy.
 */
import { once } from "node:events";
import { createServer as createHttp } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect, createServer as createTcp, type Server } from "node:net";
import { connect as connectTls, createServer as createTls } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { endpointMessage } from "../../../src/lab/linkerd/endpoint.ts";
import type { EgressNetwork, HttpRouteObject } from "../../../src/lab/linkerd/objects.ts";
import { KINDS } from "../../../src/lab/linkerd/store.ts";
import { Authority } from "../../../src/lab/pki.ts";
import { destination } from "../../../src/proto/index.ts";
import type { Endpoint } from "../../../src/proxy/core/endpoint.ts";
import { decodeEndpoint } from "../../../src/proxy/discovery/endpoints.ts";
import type { OutboundPolicy } from "../../../src/proxy/policy/index.ts";
import { TRANSPORT_ALPN } from "../../../src/proxy/wire/transport-header/index.ts";
import { ask, Balanced, endpointOf } from "../../support/balanced.ts";
import { GATEWAY, Gateway } from "../../support/gateway.ts";
import { CLIENT_NAME } from "../../support/hops.ts";
import { askOutboundPolicy, labCluster } from "../../support/lab-cluster.ts";
import { ipv4 } from "../../support/mesh-messages.ts";
import { route, service } from "../../support/mesh-objects.ts";
import { seededRng } from "../../support/rng.ts";

type World = ReturnType<typeof labCluster>;

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

const WEB = "10.96.0.1";
const path = (name: string) => `${name}.ns.svc.cluster.local:80`;

/** A cluster with the Services `web`, `a` and `b`. */
function world(): World {
  const cluster = labCluster();
  ["web", "a", "b"].forEach((name, i) => void cluster.store.put(KINDS.services, service(name, i + 1)));
  return cluster;
}

/** What the agent hears of an address. */
function policyOf(cluster: World, ip: string, port = 80): OutboundPolicy {
  const target = { case: "addr", value: { ip: ipv4(ip), port } } as const;
  const sourceWorkload = '{"ns":"ns","external_workload":"vm"}';
  const { policy, invalid } = askOutboundPolicy(cluster, { sourceWorkload, target }).decoded;
  expect(invalid).toBeUndefined();
  return policy;
}

function endpoint(server: Server): Promise<Endpoint> {
  open.push(server);
  return endpointOf(server);
}

async function start(
  policy: OutboundPolicy,
  endpoints: Record<string, Endpoint[]>,
  trusted?: Authority,
): Promise<Balanced> {
  const balanced = await Balanced.start(policy, endpoints, seededRng(1), trusted);
  open.push(balanced);
  return balanced;
}

/** All that the other side says to `first` until it closes; empty if it closes at once. */
async function heard(port: number, first = ""): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  let all = "";
  socket.on("data", (chunk) => {
    all += String(chunk);
  });
  socket.on("error", () => {});
  if (first !== "") socket.write(first);
  // Not `once`: a reset is an answer, too.
  await new Promise((resolve) => socket.on("close", resolve));
  return all;
}

/** Speaks first, and hangs up. */
const greeter = (name: string) =>
  createTcp((socket) => {
    socket.on("error", () => {});
    socket.end(name);
  });

const authority = Authority.root("applications");

/** Ends TLS and says who it is. */
async function application(name: string): Promise<Endpoint> {
  const leaf = await (await authority).issue({ dns: ["a.test", "*.b.test"] });
  const server = createTls({ key: leaf.keyPem, cert: leaf.certificatePem }, (socket) => {
    socket.on("error", () => {});
    socket.end(name);
  });
  return endpoint(server);
}

/** Who ends the TLS that the program begins; an error's code if nobody does. */
function whoIs(port: number, servername: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectTls({ host: "127.0.0.1", port, servername, rejectUnauthorized: false });
    let all = "";
    socket.on("data", (chunk) => {
      all += String(chunk);
    });
    socket.on("error", ({ code = "" }: NodeJS.ErrnoException) => resolve(code));
    socket.on("close", () => resolve(all));
  });
}

describe("a TLSRoute", () => {
  test("sends a connection where its SNI belongs, TLS untouched, and closes all others", async () => {
    const cluster = world();
    for (const [name, host] of [
      ["a", "a.test"],
      ["b", "*.b.test"],
    ] as const) {
      const spec = { hostnames: [host], rules: [{ backendRefs: [{ name, port: 80 }] }] };
      cluster.store.put(KINDS.tlsRoutes, route(name, spec, {}, "TLSRoute"));
    }
    const { port } = await start(policyOf(cluster, WEB), {
      [path("a")]: [await application("a")],
      [path("b")]: [await application("b")],
    });
    expect([await whoIs(port, "a.test"), await whoIs(port, "x.b.test")]).toEqual(["a", "b"]);
    // Neither a name without a route nor bytes without a name reach anybody.
    expect([await whoIs(port, "b.test"), await whoIs(port, "c.test")]).toEqual(["ECONNRESET", "ECONNRESET"]);
    expect(await heard(port, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")).toBe("");
  });
});

describe("a TCPRoute", () => {
  test("splits connections by weight, and takes new weights for new ones", async () => {
    const cluster = world();
    const weigh = (a: number, b: number) => {
      const backendRefs = [
        { name: "a", port: 80, weight: a },
        { name: "b", port: 80, weight: b },
      ];
      cluster.store.put(KINDS.tcpRoutes, route("split", { rules: [{ backendRefs }] }, {}, "TCPRoute"));
      return policyOf(cluster, WEB);
    };
    const balanced = await start(weigh(1, 3), {
      [path("a")]: [await endpoint(greeter("a"))],
      [path("b")]: [await endpoint(greeter("b"))],
    });
    const count = async (connections: number) => {
      const seen = { a: 0, b: 0 };
      for (let i = 0; i < connections; i++) seen[(await heard(balanced.port)) as "a" | "b"]++;
      return seen;
    };
    const seen = await count(200);
    expect(seen.a + seen.b).toBe(200);
    // 3.29 standard deviations; the seed is fixed.
    expect(Math.abs(seen.a - 50)).toBeLessThanOrEqual(3.29 * Math.sqrt(200 * 0.25 * 0.75));
    balanced.update(weigh(1, 0));
    expect(await count(20)).toEqual({ a: 20, b: 0 });
  });
});

const network = (trafficPolicy: "Allow" | "Deny"): EgressNetwork => ({
  apiVersion: "policy.linkerd.io/v1alpha1",
  kind: "EgressNetwork",
  metadata: { name: "out", namespace: "ns" },
  spec: { trafficPolicy },
});
const OUT = [{ group: "policy.linkerd.io", kind: "EgressNetwork", name: "out" }];

describe("an EgressNetwork", () => {
  async function site() {
    const cluster = world();
    const seen: string[] = [];
    const app = createHttp((req, res) => {
      seen.push(String(req.headers.host));
      res.end("out there");
    });
    const { address } = await endpoint(app);
    const greets = await endpoint(greeter("220 hello"));
    // The answers forward to the address that was asked about, which is what a program dials.
    const web = () => policyOf(cluster, address.ip, address.port);
    const mail = (): OutboundPolicy => ({ ...policyOf(cluster, address.ip, greets.address.port), kind: "opaque" });
    return { cluster, seen, web, mail };
  }

  test("that allows lets HTTP and bytes out", async () => {
    const { cluster, web, mail } = await site();
    cluster.store.put(KINDS.egressNetworks, network("Allow"));
    expect(await ask((await start(web(), {})).port)).toMatchObject({ status: 200, body: "out there" });
    expect(await heard((await start(mail(), {})).port)).toBe("220 hello");
  });

  test("that denies answers 403 and closes what is no HTTP, but for what a route lets out", async () => {
    const { cluster, seen, web, mail } = await site();
    cluster.store.put(KINDS.egressNetworks, network("Deny"));
    const balanced = await start(web(), {});
    const denied = await ask(balanced.port);
    expect([denied.status, denied.headers["l5d-proxy-error"]]).toEqual([403, "traffic not allowed"]);
    expect(await heard((await start(mail(), {})).port)).toBe("");
    const spec = { parentRefs: OUT, hostnames: ["good.test"], rules: [{ backendRefs: OUT }] };
    cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, route("good", spec as never));
    balanced.update(web());
    expect((await ask(balanced.port, { headers: { host: "good.test" } })).status).toBe(200);
    expect((await ask(balanced.port, { headers: { host: "bad.test" } })).status).toBe(403);
    expect(seen).toEqual(["good.test"]);
  });
});

describe("an EgressNetwork and the names of TLS", () => {
  test.each([
    ["Deny", "ECONNRESET"],
    ["Allow", "out there"],
  ] as const)("%s: a TLSRoute lets out what it names, the network decides about the rest", async (policy, other) => {
    const cluster = world();
    const { address } = await application("out there");
    cluster.store.put(KINDS.egressNetworks, network(policy));
    const spec = { parentRefs: OUT, hostnames: ["a.test"], rules: [{ backendRefs: OUT }] };
    cluster.store.put(KINDS.tlsRoutes, route("good", spec as never, {}, "TLSRoute"));
    const { port } = await start(policyOf(cluster, address.ip, address.port), {});
    expect([await whoIs(port, "a.test"), await whoIs(port, "x.b.test")]).toEqual(["out there", other]);
    expect(await heard(port, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")).toBe("");
  });

  test("Deny without a route: bytes of TLS are closed like all others, calls of gRPC are not permitted", async () => {
    const cluster = world();
    const { address } = await application("out there");
    cluster.store.put(KINDS.egressNetworks, network("Deny"));
    const { port } = await start(policyOf(cluster, address.ip, address.port), {});
    expect(await whoIs(port, "a.test")).toBe("ECONNRESET");
    const parentRefs = { parentRefs: OUT, rules: [{ matches: [{ method: { service: "a.Open" } }], backendRefs: OUT }] };
    cluster.store.put(KINDS.grpcRoutes, route("calls", parentRefs as never, {}, "GRPCRoute"));
    const calls = await start(policyOf(cluster, address.ip, address.port), {});
    const session = connectHttp2(`http://127.0.0.1:${calls.port}`);
    open.push({ close: () => session.destroy() });
    const stream = session.request({
      ":method": "POST",
      ":path": "/b.Shut/Call",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.end();
    const [head] = (await once(stream, "response")) as [Record<string, unknown>];
    expect(head).toMatchObject({ ":status": 200, "grpc-status": "7", "grpc-message": "traffic not allowed" });
  });
});

describe("a mirrored Service", () => {
  const REMOTE = "web.ns.svc.cluster.local:80";

  async function gateway(authority: Authority) {
    const { server, requests } = await Gateway.make(authority, "far");
    const { address } = await endpoint(server);
    return { address, requests };
  }

  /** As the destination controller announces it: a DNS name without a server name, and the name behind it. */
  function announced(address: { readonly ip: string; readonly port: number }): Endpoint {
    const mirror = { ...address, workload: undefined, gatewayIdentity: GATEWAY, authorityOverride: REMOTE };
    const message = endpointMessage(labCluster(), mirror, {}) ?? {};
    const decoded = decodeEndpoint(create(destination.WeightedAddrSchema, message), {});
    if (decoded === undefined) throw new Error("the gateway has no address");
    return decoded;
  }

  test("is asked at its gateway, by the gateway's identity and the name behind it", async () => {
    const authority = await Authority.root("root.linkerd.cluster.local");
    const { address, requests } = await gateway(authority);
    const balanced = await start(policyOf(world(), WEB), { [path("web")]: [announced(address)] }, authority);
    const answer = await ask(balanced.port, { headers: { host: "web-west.ns" } });
    expect(answer).toMatchObject({ status: 200, body: "far" });
    expect(requests).toEqual([
      {
        alpn: TRANSPORT_ALPN,
        client: `DNS:${CLIENT_NAME}`,
        port: 80,
        name: "web.ns.svc.cluster.local",
        protocol: "http2",
        authority: REMOTE,
        host: undefined,
        canonical: undefined,
      },
    ]);
  });

  test("takes over when there is nobody at home, and by weight", async () => {
    const authority = await Authority.root("root.linkerd.cluster.local");
    const { address } = await gateway(authority);
    const cluster = world();
    const weigh = (home: number, far: number) => {
      const backendRefs = [
        { name: "a", port: 80, weight: home },
        { name: "b", port: 80, weight: far },
      ];
      const split = route("failover", { rules: [{ backendRefs }] });
      cluster.store.put<HttpRouteObject>(KINDS.httpRoutes, split);
      return policyOf(cluster, WEB);
    };
    const home = await endpoint(createHttp((_req, res) => res.end("home")));
    const endpoints = { [path("a")]: [home], [path("b")]: [announced(address)] };
    const balanced = await start(weigh(1, 0), endpoints, authority);
    const who = async () => (await ask(balanced.port)).body;
    expect([await who(), await who()]).toEqual(["home", "home"]);
    balanced.update(weigh(99, 1));
    const key = `endpoints ${path("a")}`;
    balanced.proxy.tell({ type: "discovery.endpoints", key, reset: false, add: [], remove: [home.key] });
    expect([await who(), await who()]).toEqual(["far", "far"]);
    balanced.proxy.tell({ type: "discovery.endpoints", key, reset: false, add: [home], remove: [] });
    balanced.update(weigh(1, 0));
    expect([await who(), await who()]).toEqual(["home", "home"]);
    balanced.update(weigh(0, 1));
    expect([await who(), await who()]).toEqual(["far", "far"]);
  });
});
