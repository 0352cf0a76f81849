import { expect, test } from "vitest";
import { endpointMessage } from "../../../../src/lab/linkerd/endpoint.ts";
import { KINDS } from "../../../../src/lab/linkerd/store.ts";
import type { Workload } from "../../../../src/lab/linkerd/workload.ts";
import { labCluster } from "../../../support/lab-cluster.ts";
import { externalWorkload, pod, server } from "../../../support/mesh-objects.ts";

const LABELS = { zone: "", zone_locality: "unknown" };
const vm = (annotations = {}): Workload => ({
  kind: "external-workload",
  object: externalWorkload("vm", "10.0.0.9", annotations),
});
const meshed = (metadata = {}): Workload => ({ kind: "pod", object: pod("web", "10.1.0.1", metadata) });

test("an ExternalWorkload is a URI identity behind its proxy port", () => {
  expect(endpointMessage(labCluster(), { ip: "10.0.0.9", port: 8080, workload: vm() }, LABELS)).toMatchObject({
    addr: { ip: { ip: { case: "ipv4", value: 0x0a000009 } }, port: 8080 },
    weight: 10_000,
    metricLabels: { external_workload: "vm", zone: "", zone_locality: "unknown" },
    tlsIdentity: {
      strategy: { case: "uriLikeIdentity", value: { uri: "spiffe://cluster.local/ns/ns/sa/vm" } },
      serverName: { name: "vm.ns.test" },
    },
    protocolHint: { protocol: { case: "h2" }, opaqueTransport: { inboundPort: 4143 } },
    http2: { keepAlive: { interval: { seconds: 10n }, timeout: { seconds: 3n }, whileIdle: true } },
  });
});

test("its port is opaque by the default list, by annotation, or by a Server", () => {
  const cluster = labCluster();
  const hint = (port: number, annotations = {}) =>
    endpointMessage(cluster, { ip: "10.0.0.9", port, workload: vm(annotations) }, LABELS)?.protocolHint?.protocol?.case;
  const list = (text: string) => ({ "config.linkerd.io/opaque-ports": text });
  expect(hint(3306)).toBe("opaque");
  // The annotation replaces the list, and may be empty or name ports.
  expect(hint(3306, list(""))).toBe("h2");
  expect(hint(3306, list("8080"))).toBe("h2");
  expect(hint(8080, list("http"))).toBe("opaque");
  cluster.store.put(KINDS.servers, server("s", "vm", "http", { proxyProtocol: "opaque" }));
  expect(hint(8080)).toBe("opaque");
});

test("a port named linkerd-proxy is where headers go", () => {
  const base = externalWorkload("vm", "10.0.0.9");
  const ports = [{ name: "linkerd-proxy", port: 4999 }];
  const object = { ...base, spec: { ...base.spec, ports } };
  const workload: Workload = { kind: "external-workload", object };
  const message = endpointMessage(labCluster(), { ip: "10.0.0.9", port: 80, workload }, LABELS);
  expect(message?.protocolHint?.opaqueTransport?.inboundPort).toBe(4999);
});

test("without transport headers only opaque ports go through the proxy port", () => {
  const cluster = labCluster({ transportHeader: false });
  const hint = (port: number) =>
    endpointMessage(cluster, { ip: "10.0.0.9", port, workload: vm() }, LABELS)?.protocolHint?.opaqueTransport;
  expect(hint(8080)).toBeUndefined();
  expect(hint(3306)).toEqual({ inboundPort: 4143 });
});

test("a meshed pod has the name of its account", () => {
  const owner = { kind: "ReplicaSet", name: "web-5d8f", uid: "u", apiVersion: "apps/v1" };
  const labels = { "linkerd.io/control-plane-ns": "linkerd", "pod-template-hash": "5d8f" };
  const workload = meshed({ labels, ownerReferences: [owner] });
  const name = "web-sa.ns.serviceaccount.identity.linkerd.cluster.local";
  expect(endpointMessage(labCluster(), { ip: "10.1.0.1", port: 8080, workload }, LABELS)).toMatchObject({
    tlsIdentity: { strategy: { case: "dnsLikeIdentity", value: { name } }, serverName: { name } },
    protocolHint: { protocol: { case: "h2" }, opaqueTransport: { inboundPort: 4143 } },
    metricLabels: {
      pod: "web",
      serviceaccount: "web-sa",
      deployment: "web",
      pod_template_hash: "5d8f",
      control_plane_ns: "linkerd",
    },
  });
});

test.each([
  ["an unmeshed pod", { labels: { app: "web" } }, 8080],
  ["a skipped port", { annotations: { "config.linkerd.io/skip-inbound-ports": "8080" } }, 8080],
])("%s is plain", (_, metadata, port) => {
  const message = endpointMessage(labCluster(), { ip: "10.1.0.1", port, workload: meshed(metadata) }, LABELS);
  expect(message?.tlsIdentity).toBeUndefined();
  expect(message?.protocolHint).toBeUndefined();
  expect(message?.metricLabels?.["pod"]).toBe("web");
});

test("a pod of another control plane has a proxy, but no name that we know", () => {
  const workload = meshed({ labels: { "linkerd.io/control-plane-ns": "other" } });
  const message = endpointMessage(labCluster(), { ip: "10.1.0.1", port: 8080, workload }, LABELS);
  expect(message?.tlsIdentity).toBeUndefined();
  expect(message?.protocolHint?.protocol?.case).toBe("h2");
});

test("a pod's own proxy ports are not reached through the proxy port", () => {
  const message = endpointMessage(labCluster(), { ip: "10.1.0.1", port: 4191, workload: meshed() }, LABELS);
  expect(message?.protocolHint?.opaqueTransport).toBeUndefined();
});

test("an address without a workload is bare, or a gateway", () => {
  const bare = endpointMessage(labCluster(), { ip: "fd00::1", port: 80, workload: undefined }, {});
  expect(bare).toEqual({
    addr: { ip: { ip: { case: "ipv6", value: { first: 0xfd00000000000000n, last: 1n } } }, port: 80 },
    weight: 10_000,
    metricLabels: {},
  });
  const endpoint = {
    ip: "10.9.0.1",
    port: 4143,
    workload: undefined,
    gatewayIdentity: "gw",
    authorityOverride: "a:80",
  };
  const gateway = endpointMessage(labCluster(), endpoint, {});
  expect(gateway?.tlsIdentity).toEqual({ strategy: { case: "dnsLikeIdentity", value: { name: "gw" } } });
  expect(gateway?.authorityOverride).toEqual({ authorityOverride: "a:80" });
  expect(endpointMessage(labCluster(), { ip: "nonsense", port: 1, workload: undefined }, {})).toBeUndefined();
});
