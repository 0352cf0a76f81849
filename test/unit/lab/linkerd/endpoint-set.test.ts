import { expect, test } from "vitest";
import { EndpointSet, resolveGet } from "../../../../src/lab/linkerd/endpoint-set.ts";
import type { EndpointSlice } from "../../../../src/lab/linkerd/objects.ts";
import { KINDS } from "../../../../src/lab/linkerd/store.ts";
import { labCluster } from "../../../support/lab-cluster.ts";
import { externalWorkload, pod, server, service, slice } from "../../../support/mesh-objects.ts";

const CONTEXT = { namespace: "ns", nodeName: undefined };
const WEB = { name: "web", namespace: "ns", hostname: undefined, port: 80 };

type Updates = ReturnType<EndpointSet["refresh"]>;

/** `+` or `-` and the addresses of each message. */
function brief(updates: Updates): readonly string[] {
  return updates.map(({ update }) => {
    if (update?.case !== "add" && update?.case !== "remove") return "?";
    const texts = update.value.addrs?.map((entry) => {
      const addr = "addr" in entry ? entry.addr : entry;
      const ip = addr !== undefined && "ip" in addr ? addr.ip?.ip : undefined;
      return ip?.case === "ipv4"
        ? `${Number(ip.value) & 0xff}:${addr !== undefined && "port" in addr && addr.port}`
        : "?";
    });
    return `${update.case === "add" ? "+" : "-"}${texts?.join(",")}`;
  });
}

function world() {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("web", 1));
  return cluster;
}

test("a name is resolved to Service and port, 80 unless told", () => {
  expect(resolveGet(world(), "web.ns.svc.cluster.local")).toEqual(WEB);
  expect(resolveGet(world(), "h.web.ns.svc.cluster.local:81")).toEqual({ ...WEB, hostname: "h", port: 81 });
});

test("ready endpoints are added once, gone ones removed", () => {
  const cluster = world();
  const [a, b] = [pod("a", "10.1.0.1"), pod("b", "10.1.0.2")];
  cluster.store.put(KINDS.pods, a);
  cluster.store.put(KINDS.pods, b);
  const set = new EndpointSet(cluster, WEB, CONTEXT);
  expect(set.refresh()).toEqual([]);
  cluster.store.put(KINDS.endpointSlices, slice("web", [a, b]));
  const [first] = set.refresh();
  expect(brief(first ? [first] : [])).toEqual(["+1:8080,2:8080"]);
  expect(first?.update?.case === "add" && first.update.value.metricLabels).toEqual({ service: "web", namespace: "ns" });
  expect(set.refresh()).toEqual([]);
  cluster.store.put(KINDS.endpointSlices, slice("web", [b]));
  expect(brief(set.refresh())).toEqual(["-1:8080"]);
  cluster.store.delete(KINDS.services, "ns", "web");
  expect(brief(set.refresh())).toEqual(["-2:8080"]);
});

test("a changed pod is told again, a changed ExternalWorkload is not", () => {
  const cluster = world();
  const [a, vm] = [pod("a", "10.1.0.1"), externalWorkload("vm", "10.0.0.9")];
  cluster.store.put(KINDS.pods, a);
  cluster.store.put(KINDS.externalWorkloads, vm);
  cluster.store.put(KINDS.endpointSlices, slice("web", [a, vm]));
  const set = new EndpointSet(cluster, WEB, CONTEXT);
  expect(brief(set.refresh())).toEqual(["+1:8080,9:8080"]);
  cluster.store.put(KINDS.pods, a);
  cluster.store.put(KINDS.externalWorkloads, vm);
  expect(brief(set.refresh())).toEqual(["+1:8080"]);
  // The one thing that is told of an ExternalWorkload: a Server makes its port opaque.
  cluster.store.put(KINDS.servers, server("s", "vm", 8080, { proxyProtocol: "opaque" }));
  expect(brief(set.refresh())).toEqual(["+9:8080"]);
});

test("an address that changes while its ExternalWorkload is ready stays with the client for good", () => {
  const cluster = world();
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.9"));
  cluster.store.put(KINDS.endpointSlices, slice("web", [externalWorkload("vm", "10.0.0.9")]));
  const set = new EndpointSet(cluster, WEB, CONTEXT);
  expect(brief(set.refresh())).toEqual(["+9:8080"]);
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.8"));
  cluster.store.put(KINDS.endpointSlices, slice("web", [externalWorkload("vm", "10.0.0.8")]));
  expect(set.refresh()).toEqual([]);
  // Not ready: what is taken away is the address that the client never heard of.
  cluster.store.put(KINDS.endpointSlices, slice("web", []));
  expect(brief(set.refresh())).toEqual(["-8:8080"]);
});

test("an ExternalWorkload that is deleted while ready is never removed, unless its slice outlives it without it", () => {
  const cluster = world();
  const [vm, other] = [externalWorkload("vm", "10.0.0.9"), externalWorkload("other", "10.0.0.7")];
  const start = (members: Parameters<typeof slice>[1]) => {
    for (const member of [vm, other]) cluster.store.put(KINDS.externalWorkloads, member);
    cluster.store.put(KINDS.endpointSlices, slice("web", members));
    const set = new EndpointSet(cluster, WEB, CONTEXT);
    set.refresh();
    return set;
  };
  const alone = start([vm]);
  const before = slice("web", [vm]).metadata.name;
  cluster.store.delete(KINDS.externalWorkloads, "ns", "vm");
  expect(alone.refresh()).toEqual([]);
  cluster.store.delete(KINDS.endpointSlices, "ns", before);
  expect(alone.refresh()).toEqual([]);
  const together = start([vm, other]);
  cluster.store.delete(KINDS.externalWorkloads, "ns", "vm");
  cluster.store.put(KINDS.endpointSlices, slice("web", [other]));
  expect(brief(together.refresh())).toEqual(["-9:8080"]);
});

test("any opaque Server of a port makes it opaque, also one that does not rule it", () => {
  const cluster = world();
  const vm = externalWorkload("vm", "10.0.0.9");
  cluster.store.put(KINDS.externalWorkloads, vm);
  cluster.store.put(KINDS.endpointSlices, slice("web", [vm]));
  cluster.store.put(KINDS.servers, server("a", "vm", 8080, { proxyProtocol: "HTTP/1" }));
  cluster.store.put(KINDS.servers, server("b", "vm", 8080, { proxyProtocol: "opaque" }));
  const [update] = new EndpointSet(cluster, WEB, CONTEXT).refresh();
  expect(update?.update?.case === "add" && update.update.value.addrs?.[0]?.protocolHint?.protocol?.case).toBe("opaque");
});

test("of two addresses of one ExternalWorkload only the last is offered", () => {
  const cluster = world();
  const vm = externalWorkload("vm", "10.0.0.9");
  const twice = slice("web", [vm]);
  const endpoints = [{ ...twice.endpoints?.[0], addresses: ["10.0.0.9", "10.0.0.8"] }];
  cluster.store.put(KINDS.externalWorkloads, vm);
  cluster.store.put<EndpointSlice>(KINDS.endpointSlices, { ...twice, endpoints });
  expect(brief(new EndpointSet(cluster, WEB, CONTEXT).refresh())).toEqual(["+8:8080"]);
});

test("a port that the Service does not declare is taken for the endpoints' own", () => {
  const cluster = world();
  const a = pod("a", "10.1.0.1");
  cluster.store.put(KINDS.pods, a);
  cluster.store.put(KINDS.endpointSlices, slice("web", [a]));
  expect(brief(new EndpointSet(cluster, { ...WEB, port: 9999 }, CONTEXT).refresh())).toEqual(["+1:9999"]);
});

test("local traffic policy leaves nobody but pods of the caller's node", () => {
  const cluster = labCluster();
  const base = service("web", 1);
  const local: typeof base = { ...base, spec: { ...base.spec, internalTrafficPolicy: "Local" } };
  const here = pod("a", "10.1.0.1");
  const there = pod("b", "10.1.0.2");
  const vm = externalWorkload("vm", "10.0.0.9");
  cluster.store.put(KINDS.services, local);
  cluster.store.put<typeof here>(KINDS.pods, { ...here, spec: { ...here.spec, nodeName: "n1" } });
  cluster.store.put<typeof there>(KINDS.pods, { ...there, spec: { ...there.spec, nodeName: "n2" } });
  cluster.store.put(KINDS.externalWorkloads, vm);
  cluster.store.put(KINDS.endpointSlices, slice("web", [here, there, vm]));
  const on = (nodeName: string | undefined) => brief(new EndpointSet(cluster, WEB, { ...CONTEXT, nodeName }).refresh());
  expect(on("n1")).toEqual(["+1:8080"]);
  expect(on(undefined)).toEqual([]);
});

test("an address without a workload may be a gateway", () => {
  const cluster = world();
  const annotations = {
    "mirror.linkerd.io/remote-gateway-identity": "gw.test",
    "mirror.linkerd.io/remote-svc-fq-name": "web.far.svc.cluster.local",
  };
  const base = slice("web", []);
  const labels = { ...base.metadata.labels, "mirror.linkerd.io/cluster-name": "west" };
  cluster.store.put<EndpointSlice>(KINDS.endpointSlices, {
    ...base,
    metadata: { ...base.metadata, annotations, labels },
    endpoints: [{ addresses: ["10.9.0.1"] }],
  });
  const [update] = new EndpointSet(cluster, WEB, CONTEXT).refresh();
  expect(update?.update?.case === "add" && update.update.value.metricLabels).toEqual({
    service: "web",
    namespace: "ns",
    target_cluster: "west",
    target_service: "web",
    target_service_namespace: "far",
  });
  expect(update?.update?.case === "add" && update.update.value.addrs?.[0]).toMatchObject({
    tlsIdentity: { strategy: { case: "dnsLikeIdentity", value: { name: "gw.test" } } },
    authorityOverride: { authorityOverride: "web.far.svc.cluster.local:80" },
    metricLabels: { zone_locality: "unknown" },
  });
});

test("zone locality compares the endpoint's zone with the caller's node", () => {
  const cluster = world();
  const zone = { "topology.kubernetes.io/zone": "z1" };
  cluster.store.put(KINDS.nodes, { apiVersion: "v1", kind: "Node", metadata: { name: "n1", labels: zone } });
  const base = slice("web", []);
  cluster.store.put<EndpointSlice>(KINDS.endpointSlices, {
    ...base,
    endpoints: [
      { addresses: ["10.9.0.1"], zone: "z1" },
      { addresses: ["10.9.0.2"], zone: "z2" },
    ],
  });
  const [update] = new EndpointSet(cluster, WEB, { ...CONTEXT, nodeName: "n1" }).refresh();
  const labels = update?.update?.case === "add" ? update.update.value.addrs?.map((a) => a.metricLabels) : [];
  // Of an address without a workload the zone itself is not told.
  expect(labels).toEqual([{ zone_locality: "local" }, { zone_locality: "remote" }]);
});
