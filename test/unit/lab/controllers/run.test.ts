import { describe, expect, it } from "vitest";
import type { KubeObject } from "../../../../src/bootstrap/enroller/kubernetes.ts";
import { LabStore, TYPES } from "../../../../src/lab/api/index.ts";
import { startEndpointControllers } from "../../../../src/lab/controllers/index.ts";
import type { EndpointSlice } from "../../../../src/lab/controllers/objects.ts";

const settle = () =>
  new Promise((resolve) => setImmediate(resolve)).then(() => new Promise((resolve) => setImmediate(resolve)));

function lab() {
  const store = new LabStore();
  const problems: string[] = [];
  startEndpointControllers(store, (service, problem) => problems.push(`${service}: ${problem.message}`));
  const create = (type: (typeof TYPES)[keyof typeof TYPES], kind: string, rest: object) =>
    store.create(type, "default", { kind, ...rest } as unknown as KubeObject);
  const service = (name: string, spec: object = {}, metadata: object = {}) =>
    create(TYPES.services, "Service", {
      metadata: { name, ...metadata },
      spec: { selector: { app: "web" }, ports: [{ name: "http", port: 80, targetPort: "http" }], ...spec },
    });
  const workload = (name: string, spec: object = {}, labels: Record<string, string> = { app: "web" }) =>
    create(TYPES.externalWorkloads, "ExternalWorkload", {
      metadata: { name, labels },
      spec: {
        meshTLS: { identity: "spiffe://td/x", serverName: "x" },
        ports: [{ name: "http", port: 8080 }],
        workloadIPs: [{ ip: "10.0.0.5" }],
        ...spec,
      },
    });
  const condition = (type: "pods" | "externalWorkloads", name: string, status: string) =>
    store.modify(
      TYPES[type],
      "default",
      name,
      (live) => ({ ...live, status: { ...(live["status"] as object), conditions: [{ type: "Ready", status }] } }),
      {
        subresource: "status",
      },
    );
  const pod = (name: string, ip: string, labels: Record<string, string> = { app: "web" }) =>
    store.put(TYPES.pods, {
      kind: "Pod",
      metadata: { name, namespace: "default", labels },
      spec: { containers: [{ name: "app", ports: [{ name: "http", containerPort: 8080 }] }] },
      status: { phase: "Running", podIP: ip, conditions: [{ type: "Ready", status: "True" }] },
    } as unknown as KubeObject);
  const slices = () => store.list<EndpointSlice>(TYPES.endpointSlices, "default");
  return { store, problems, service, workload, condition, pod, slices };
}

describe("endpoints of ExternalWorkloads", () => {
  it("writes slices as Linkerd's controller does", async () => {
    const { service, workload, condition, slices, store } = lab();
    const owner = service("web", {}, { labels: { team: "a" } });
    const vm = workload("vm", {}, { app: "web", "topology.kubernetes.io/zone": "z1" });
    await settle();
    expect(slices()).toHaveLength(1);
    const [slice] = slices();
    expect(slice?.metadata.name).toMatch(/^linkerd-external-web-.{5}$/);
    expect(slice?.metadata.labels).toEqual({
      team: "a",
      "kubernetes.io/service-name": "web",
      "endpointslice.kubernetes.io/managed-by": "linkerd-external-workloads-controller",
    });
    expect(slice?.metadata.ownerReferences).toMatchObject([
      { kind: "Service", name: "web", uid: owner.metadata.uid, controller: true },
    ]);
    expect(slice?.ports).toEqual([{ name: "http", port: 8080, protocol: "TCP" }]);
    expect(slice?.endpoints).toEqual([
      {
        addresses: ["10.0.0.5"],
        conditions: { ready: false, serving: false, terminating: false },
        targetRef: { kind: "ExternalWorkload", namespace: "default", name: "vm", uid: vm.metadata.uid },
        zone: "z1",
      },
    ]);
    condition("externalWorkloads", "vm", "True");
    await settle();
    expect(slices()[0]?.endpoints[0]?.conditions).toEqual({ ready: true, serving: true, terminating: false });
    condition("externalWorkloads", "vm", "Unknown");
    await settle();
    expect(slices()[0]?.endpoints[0]?.conditions.ready).toBe(false);
    store.delete(TYPES.externalWorkloads, "default", "vm");
    await settle();
    expect(slices()).toEqual([]);
  });

  it("matches ports by name or declared number, and protocol", async () => {
    const { service, workload, slices } = lab();
    service("number", { ports: [{ port: 8080 }] });
    service("undeclared", { ports: [{ port: 9999 }] });
    service("udp", { ports: [{ port: 8080, protocol: "UDP" }] });
    service("half", {
      ports: [
        { name: "a", port: 8080 },
        { name: "b", port: 1, targetPort: "nope" },
      ],
    });
    service("bare", { ports: undefined, clusterIP: "None" });
    workload("vm");
    await settle();
    const ports = Object.fromEntries(
      slices().map((slice) => [slice.metadata.labels?.["kubernetes.io/service-name"], slice.ports]),
    );
    expect(ports).toEqual({
      number: [{ port: 8080, protocol: "TCP" }],
      // Where nothing matches the endpoint is there all the same, without a port.
      undeclared: [],
      udp: [],
      half: [{ name: "a", port: 8080, protocol: "TCP" }],
      bare: [],
    });
    const bare = slices().find((slice) => slice.metadata.labels?.["kubernetes.io/service-name"] === "bare");
    expect(bare?.metadata.labels).toHaveProperty(["service.kubernetes.io/headless"], "");
    expect(bare?.endpoints[0]?.hostname).toBe("vm");
  });

  it("follows labels of the workload and the selector of the Service", async () => {
    const { store, service, workload, slices } = lab();
    service("web");
    workload("vm", {}, { app: "other" });
    await settle();
    expect(slices()).toEqual([]);
    store.modify(TYPES.externalWorkloads, "default", "vm", (live) => ({
      ...live,
      metadata: { ...(live["metadata"] as object), labels: { app: "web" } },
    }));
    await settle();
    expect(slices()).toHaveLength(1);
    store.modify(TYPES.services, "default", "web", (live) => ({
      ...live,
      spec: { ...(live["spec"] as object), selector: { app: "x" } },
    }));
    await settle();
    expect(slices()).toEqual([]);
  });

  it("puts at most 100 endpoints into a slice, and fills gaps before it makes another", async () => {
    const { store, service, workload, slices } = lab();
    service("web");
    for (let index = 0; index < 150; index++) workload(`vm-${index}`, { workloadIPs: [{ ip: `10.0.1.${index}` }] });
    await settle();
    expect(
      slices()
        .map((slice) => slice.endpoints.length)
        .sort(),
    ).toEqual([100, 50]);
    const full = slices().find((slice) => slice.endpoints.length === 100);
    const gone = full?.endpoints[3]?.targetRef.name ?? "";
    store.delete(TYPES.externalWorkloads, "default", gone);
    await settle();
    workload("late", { workloadIPs: [{ ip: "10.0.2.1" }] });
    await settle();
    expect(
      slices()
        .map((slice) => slice.endpoints.length)
        .sort(),
    ).toEqual([100, 50]);
  });

  it("lets one bad address block the whole slice, as the API server refuses it", async () => {
    const { problems, service, workload, slices } = lab();
    service("web");
    workload("good");
    workload("bad", { workloadIPs: [{ ip: "127.0.0.1" }] });
    await settle();
    expect(slices()).toEqual([]);
    expect(problems[0]).toContain("not a usable IPv4 address");
  });

  it("reverts what somebody else does to its slices", async () => {
    const { store, service, workload, slices } = lab();
    service("web");
    workload("vm");
    await settle();
    const name = slices()[0]?.metadata.name ?? "";
    store.modify(TYPES.endpointSlices, "default", name, (live) => ({ ...live, endpoints: [] }));
    await settle();
    expect(slices()[0]?.endpoints).toHaveLength(1);
    store.delete(TYPES.endpointSlices, "default", name);
    await settle();
    expect(slices()[0]?.endpoints).toHaveLength(1);
  });
});

describe("endpoints of pods", () => {
  it("stand beside those of ExternalWorkloads in slices of their own", async () => {
    const { store, service, workload, pod, condition, slices } = lab();
    service("web");
    workload("vm");
    pod("a", "10.1.0.1");
    pod("b", "10.1.0.2");
    await settle();
    const ofPods = () => slices().find((slice) => slice.metadata.name.startsWith("web-"));
    expect(slices()).toHaveLength(2);
    expect(ofPods()?.endpoints.map((endpoint) => endpoint.addresses[0])).toEqual(["10.1.0.1", "10.1.0.2"]);
    condition("pods", "a", "False");
    await settle();
    expect(ofPods()?.endpoints.map((endpoint) => endpoint.conditions.ready)).toEqual([false, true]);
    store.delete(TYPES.pods, "default", "a");
    store.delete(TYPES.pods, "default", "b");
    await settle();
    expect(ofPods()).toBeUndefined();
  });

  it("go with the Service", async () => {
    const { store, service, pod, slices } = lab();
    service("web");
    pod("a", "10.1.0.1");
    await settle();
    store.delete(TYPES.services, "default", "web");
    await settle();
    expect(slices()).toEqual([]);
  });
});
