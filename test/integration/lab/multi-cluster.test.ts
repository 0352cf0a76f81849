/**
 * Failover to another cluster, as an operator does it: objects applied with kubectl, told by the lab's control plane over
 * mesh TLS, heard by the real hub and carried by the running proxy.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttp, type Server } from "node:http";
import type { AddressInfo, Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ControlPlaneClient } from "../../../src/agent/control-plane.ts";
import { kubeconfig, type LabApi, LabStore, selfSigned, startApi } from "../../../src/lab/api/index.ts";
import { KINDS, type Linkerd, startLinkerd } from "../../../src/lab/linkerd/index.ts";
import type { Service } from "../../../src/lab/linkerd/objects.ts";
import { createPki } from "../../../src/lab/pki.ts";
import { parseCidr } from "../../../src/proxy/core/address.ts";
import type { Endpoint } from "../../../src/proxy/core/endpoint.ts";
import { discoveryKey } from "../../../src/proxy/core/messages.ts";
import { Hub, type HubWorker } from "../../../src/proxy/discovery/index.ts";
import { TRANSPORT_ALPN } from "../../../src/proxy/wire/transport-header/index.ts";
import { MemoryStore } from "../../support/answer-store.ts";
import { ask } from "../../support/balanced.ts";
import { GATEWAY, Gateway } from "../../support/gateway.ts";
import { CLIENT_NAME, HopProxy, identityFrom } from "../../support/hops.ts";
import { TestLog } from "../../support/log.ts";
import { until } from "../../support/until.ts";

const script = new URL("../../../scripts/kubectl.sh", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "mesh-agent-mirror-"));
const environment = { PATH: process.env["PATH"] ?? "", HOME: folder, KUBECONFIG: join(folder, "config") };
// Kubernetes takes no loopback address for an endpoint. What is told of this one is reached on loopback.
const HOST = "10.42.0.1";

let program = "";
let api: LabApi;
let linkerd: Linkerd;
let hub: Hub;
let proxy: HopProxy;
let home: Server;
let gateway: Gateway;
let port = 0;
let homePort = 0;
let gatewayPort = 0;

function kubectl(line: string, input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, line.split(" "), { env: environment }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(stderr));
    });
    child.stdin?.end(input);
  });
}

async function listen(server: TcpServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
  return (server.address() as AddressInfo).port;
}

const services = () => `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata:
  name: web-west
  namespace: shop
  labels: {mirror.linkerd.io/mirrored-service: "true", mirror.linkerd.io/cluster-name: west}
  annotations: {mirror.linkerd.io/remote-svc-fq-name: web.shop.svc.cluster.local}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-west
  namespace: shop
  labels: {kubernetes.io/service-name: web-west, mirror.linkerd.io/cluster-name: west}
  annotations:
    mirror.linkerd.io/remote-gateway-identity: ${GATEWAY}
    mirror.linkerd.io/remote-svc-fq-name: web.shop.svc.cluster.local
addressType: IPv4
ports: [{name: http, port: ${gatewayPort}, protocol: TCP}]
endpoints: [{addresses: ["${HOST}"]}]
`;

const atHome = (ready: boolean) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: ${homePort}, protocol: TCP}]
endpoints: [{addresses: ["${HOST}"], conditions: {ready: ${ready}}}]
`;

const weights = (near: number, far: number) => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: failover, namespace: shop}
spec:
  parentRefs: [{group: core, kind: Service, name: web, port: 80}]
  rules:
  - backendRefs:
    - {name: web, port: 80, weight: ${near}}
    - {name: web-west, port: 80, weight: ${far}}
`;

beforeAll(async () => {
  program = execFileSync("sh", [script], { encoding: "utf8" }).trim();
  const store = new LabStore();
  const tls = await selfSigned(["127.0.0.1"]);
  const token = "an-administrator";
  api = await startApi(store, { listen: [{ host: "127.0.0.1", port: 0 }], tls, token });
  const reach = { server: `https://127.0.0.1:${api.ports[0]}`, certificateAuthority: tls.cert, token };
  writeFileSync(environment.KUBECONFIG, kubeconfig(reach));
  const pki = await createPki();
  linkerd = await startLinkerd({
    store,
    pki,
    review: () => ({ authenticated: false, error: "" }),
    listen: { host: "127.0.0.1", identityPort: 0, destinationPort: 0, policyPort: 0, inboundPort: 0 },
  });

  home = createHttp((_req, res) => res.end("home"));
  homePort = await listen(home);
  gateway = await Gateway.make(pki.root, "far");
  gatewayPort = await listen(gateway.server);
  await kubectl("apply -f -", services() + "---" + atHome(true) + "---" + weights(1, 0));

  const identity = await identityFrom(pki.root, CLIENT_NAME);
  const source = { current: () => identity, subscribe: () => () => {} };
  const side: { worker?: HubWorker } = {};
  // The program's address for the Service is its ClusterIP; here it dials the proxy itself.
  const { clusterIP = "" } = store.get<Service>(KINDS.services, "shop", "web")?.spec ?? {};
  const dialled = discoveryKey({ kind: "outbound", ip: clusterIP, port: 80 });
  proxy = new HopProxy(
    identity,
    (request) => {
      const { target } = request;
      const meant = target.kind === "outbound" ? { ...target, ip: clusterIP, port: 80 } : target;
      side.worker?.receive({ ...request, target: meant });
      return undefined;
    },
    {},
  );
  port = await proxy.listenOutbound();
  const answered = discoveryKey({ kind: "outbound", ip: "127.0.0.1", port });
  const client = (address: AddressInfo) =>
    new ControlPlaneClient({
      identity: source,
      locate: () => ({ addresses: [`127.0.0.1:${address.port}`], tlsName: linkerd.destinationName }),
      connected: () => hub.retryNow(),
      metrics: proxy.metrics.registry,
    });
  hub = new Hub({
    destination: client(linkerd.addresses.destination).get,
    policy: client(linkerd.addresses.policy).get,
    contextToken: () => '{"ns":"shop"}',
    policyWorkload: () => '{"ns":"shop","external_workload":"vm"}',
    profileNetworks: () => ["10.0.0.0/8"].map(parseCidr).filter((net) => net !== undefined),
    clock: { now: () => performance.now(), wallMs: () => Date.now() },
    timers: {
      after(ms, callback) {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
      },
    },
    rng: Math.random,
    store: new MemoryStore(),
    log: new TestLog(),
  });
  const here = (endpoint: Endpoint) => ({ ...endpoint, address: { ...endpoint.address, ip: "127.0.0.1" } });
  side.worker = hub.attachWorker((message) => {
    if (message.type === "discovery.endpoints") proxy.tell({ ...message, add: message.add.map(here) });
    else proxy.tell(message.key === dialled ? { ...message, key: answered } : message);
  });
  await ask(port);
}, 120_000);

afterAll(async () => {
  proxy?.close();
  hub?.close();
  await linkerd?.close();
  await api?.close();
  home?.closeAllConnections();
  home?.close();
  gateway?.server.close();
  rmSync(folder, { recursive: true, force: true });
});

const who = async () => {
  const { status, body } = await ask(port, { headers: { host: "web.shop" } });
  return status === 200 ? body : status;
};

/** Asks until `cluster` answers five times in a row. @returns All who answered; whoever did not, by status. */
async function settles(cluster: string): Promise<readonly (string | number)[]> {
  const seen: (string | number)[] = [];
  await until(async () => {
    seen.push(await who());
    return seen.length >= 5 && seen.slice(-5).every((each) => each === cluster);
  }, `${cluster} answers`);
  return seen;
}

const failures = (seen: readonly (string | number)[]) => seen.filter((each) => typeof each === "number");

describe("a Service that is mirrored from another cluster", () => {
  beforeEach(async () => {
    await kubectl("apply -f -", atHome(true) + "---" + weights(1, 0));
    await settles("home");
  });

  test("takes over by weight, and gives back, without a failed request", async () => {
    for (const [near, far, cluster] of [
      [0, 1, "far"],
      [1, 0, "home"],
      [0, 1, "far"],
    ] as const) {
      await kubectl("apply -f -", weights(near, far));
      expect(failures(await settles(cluster))).toEqual([]);
    }
    // It is asked at its gateway, by the gateway's identity, under the name that it has at home.
    expect(gateway.requests.at(-1)).toMatchObject({
      alpn: TRANSPORT_ALPN,
      client: `DNS:${CLIENT_NAME}`,
      port: 80,
      name: "web.shop.svc.cluster.local",
      protocol: "http2",
      authority: "web.shop.svc.cluster.local:80",
      host: undefined,
    });
    const page = proxy.metrics.format();
    const labels = 'dst_target_cluster="west",dst_target_service="web",dst_target_service_namespace="shop"';
    expect(page).toMatch(new RegExp(`^request_total\\{.*server_id="${GATEWAY}".*${labels}`, "m"));
  });

  test("takes over while nobody is ready at home, and gives back when somebody is", async () => {
    await kubectl("apply -f -", weights(99, 1));
    for (let round = 0; round < 2; round++) {
      await kubectl("apply -f -", atHome(false));
      expect(failures(await settles("far"))).toEqual([]);
      await kubectl("apply -f -", atHome(true));
      expect(failures(await settles("home"))).toEqual([]);
    }
  });

  test("takes over when the slices at home are deleted", async () => {
    await kubectl("apply -f -", weights(99, 1));
    await kubectl("delete endpointslice web -n shop");
    expect(failures(await settles("far"))).toEqual([]);
    await kubectl("apply -f -", atHome(true));
    expect(failures(await settles("home"))).toEqual([]);
  });
});
