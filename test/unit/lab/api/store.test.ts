import { describe, expect, it } from "vitest";
import type { KubeObject } from "../../../../src/bootstrap/enroller/kubernetes.ts";
import { LabError, LabStore, type StoreEvent, TYPES } from "../../../../src/lab/api/index.ts";

type Loose = KubeObject & { spec: Record<string, unknown>; status?: unknown; data?: unknown };

const service = (name: string, spec: object = { ports: [{ port: 80 }] }) =>
  ({ apiVersion: "v1", kind: "Service", metadata: { name }, spec }) as unknown as Loose;

const workload = (name: string, extra: object = {}) =>
  ({
    apiVersion: "workload.linkerd.io/v1beta1",
    kind: "ExternalWorkload",
    metadata: { name, namespace: "default" },
    spec: { meshTLS: { identity: "spiffe://td/ns/a/sa/b", serverName: "b.a" }, ports: [{ port: 8080 }] },
    ...extra,
  }) as unknown as Loose;

const ready = { conditions: [{ type: "Ready", status: "True" }] };

function refusal(act: () => unknown): LabError {
  try {
    act();
  } catch (error) {
    if (error instanceof LabError) return error;
    throw error;
  }
  throw new Error("was not refused");
}

describe("LabStore", () => {
  it("numbers every change and gives an object its birth", () => {
    const store = new LabStore({ now: () => Date.parse("2026-01-02T03:04:05.678Z") });
    const made = store.create(TYPES.services, "default", service("web"));
    expect(made.metadata.creationTimestamp).toBe("2026-01-02T03:04:05Z");
    expect(made.metadata.resourceVersion).toBe(String(store.version));
    expect(made.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(Object.isFrozen(made)).toBe(true);
  });

  it("hands out the lowest free ClusterIP, honours a wish, refuses one that is taken or foreign", () => {
    const store = new LabStore({ serviceCidr: "10.9.0.0/24" });
    const address = (object: Loose) => (object["spec"] as unknown as { clusterIP: string }).clusterIP;
    const ports = [{ port: 80 }];
    expect(address(store.create(TYPES.services, "default", service("a")))).toBe("10.9.0.2");
    expect(address(store.create(TYPES.services, "default", service("b", { ports, clusterIP: "10.9.0.3" })))).toBe(
      "10.9.0.3",
    );
    expect(address(store.create(TYPES.services, "default", service("c")))).toBe("10.9.0.4");
    expect(address(store.create(TYPES.services, "default", service("d", { ports, clusterIP: "None" })))).toBe("None");
    expect(
      refusal(() => store.create(TYPES.services, "default", service("e", { ports, clusterIP: "10.9.0.3" }))).code,
    ).toBe(422);
    expect(
      refusal(() => store.create(TYPES.services, "default", service("f", { ports, clusterIP: "1.2.3.4" }))).code,
    ).toBe(422);
    store.delete(TYPES.services, "default", "a");
    expect(address(store.create(TYPES.services, "default", service("g")))).toBe("10.9.0.2");
  });

  it("keeps the ClusterIP of a service that is replaced without one", () => {
    const store = new LabStore();
    const before = store.create(TYPES.services, "default", service("web"));
    const after = store.update(TYPES.services, "default", service("web", { ports: [{ port: 81 }] }));
    expect(after["spec"]["clusterIP"]).toBe(before["spec"]["clusterIP"]);
  });

  it("refuses a second object of a name, an unknown namespace, an unknown kind", () => {
    const store = new LabStore();
    store.create(TYPES.services, "default", service("web"));
    expect(refusal(() => store.create(TYPES.services, "default", service("web"))).reason).toBe("AlreadyExists");
    expect(refusal(() => store.create(TYPES.services, "nowhere", service("web"))).message).toBe(
      'namespaces "nowhere" not found',
    );
    expect(refusal(() => store.list({ group: "x.y", version: "v1", plural: "things" })).code).toBe(404);
  });

  it("refuses an update that is based on an older version", () => {
    const store = new LabStore();
    const first = store.create(TYPES.services, "default", service("web"));
    store.update(TYPES.services, "default", { ...first, metadata: { ...first.metadata, labels: { a: "b" } } });
    const error = refusal(() => store.update(TYPES.services, "default", first));
    expect([error.code, error.reason]).toEqual([409, "Conflict"]);
  });

  it("does nothing, and says nothing, when nothing changes", () => {
    const store = new LabStore();
    const first = store.create(TYPES.services, "default", service("web"));
    const events: StoreEvent[] = [];
    store.watch((event) => events.push(event));
    expect(store.update(TYPES.services, "default", first).metadata.resourceVersion).toBe(
      first.metadata.resourceVersion,
    );
    expect(events).toEqual([]);
  });

  it("drops a status from ordinary writes, and all but the status from status writes", () => {
    const store = new LabStore();
    const made = store.create(TYPES.externalWorkloads, "default", workload("vm", { status: ready }));
    expect(made["status"]).toBeUndefined();
    const written = store.update(
      TYPES.externalWorkloads,
      "default",
      workload("vm", { status: ready, spec: { meshTLS: { identity: "other", serverName: "o" } } }),
      { subresource: "status" },
    );
    expect(written["status"]).toEqual(ready);
    expect(written["spec"]).toEqual(made["spec"]);
    expect(written.metadata.generation).toBe(1);
    const again = store.update(
      TYPES.externalWorkloads,
      "default",
      workload("vm", { metadata: { name: "vm", labels: { a: "b" } } }),
    );
    expect(again["status"]).toEqual(ready);
  });

  it("counts a generation for each change of intent, not for labels", () => {
    const store = new LabStore();
    store.create(TYPES.externalWorkloads, "default", workload("vm"));
    const relabel = store.update(
      TYPES.externalWorkloads,
      "default",
      workload("vm", { metadata: { name: "vm", labels: { a: "b" } } }),
    );
    expect(relabel.metadata.generation).toBe(1);
    const spec = { meshTLS: { identity: "spiffe://td/x", serverName: "x" } };
    expect(store.update(TYPES.externalWorkloads, "default", workload("vm", { spec })).metadata.generation).toBe(2);
  });

  it("holds an ExternalWorkload to its schema and to no more", () => {
    const store = new LabStore();
    const create = (spec: unknown) => store.create(TYPES.externalWorkloads, "default", workload("vm", { spec }));
    const tls = { identity: "spiffe://td/x", serverName: "x" };
    expect(refusal(() => create(null)).message).toBe(
      'ExternalWorkload.workload.linkerd.io "vm" is invalid: spec: Required value',
    );
    expect(refusal(() => create({ meshTLS: { identity: "x" } })).message).toContain(
      "spec.meshTLS.serverName: Required value",
    );
    expect(refusal(() => create({ meshTLS: tls, ports: [{ port: 0 }] })).message).toContain(
      "greater than or equal to 1",
    );
    expect(refusal(() => create({ meshTLS: tls, ports: [{ port: "80" }] })).message).toContain(
      "must be of type integer",
    );
    const three = [{ ip: "1.1.1.1" }, { ip: "2.2.2.2" }, { ip: "3.3.3.3" }];
    expect(refusal(() => create({ meshTLS: tls, workloadIPs: three })).message).toContain("must have at most 2 items");
    const odd = create({
      meshTLS: tls,
      ports: [{ port: 1 }, { port: 1, protocol: "carrier pigeon" }],
      workloadIPs: [{ ip: "no" }],
      x: 1,
    });
    expect(odd["spec"]).toEqual({
      meshTLS: tls,
      ports: [
        { port: 1, protocol: "TCP" },
        { port: 1, protocol: "carrier pigeon" },
      ],
      workloadIPs: [{ ip: "no" }],
    });
    const status = (condition: object) =>
      store.update(TYPES.externalWorkloads, "default", workload("vm", { status: { conditions: [condition] } }), {
        subresource: "status",
      });
    expect(refusal(() => status({ type: "Ready", status: "Yes" })).message).toContain("supported values");
    expect(refusal(() => status({ type: "Ready", status: "True", reason: "has space" })).message).toContain(
      "should match",
    );
    expect(refusal(() => status({ type: "Ready", status: "True", lastTransitionTime: "now" })).message).toContain(
      "date-time",
    );
  });

  it("refuses a slice with an address that nobody can reach", () => {
    const store = new LabStore();
    const slice = (address: string) =>
      ({
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: { generateName: "web-" },
        addressType: "IPv4",
        endpoints: [{ addresses: [address] }],
      }) as unknown as KubeObject;
    for (const bad of ["127.0.0.1", "169.254.1.1", "0.0.0.0", "::1", "vm"]) {
      expect(refusal(() => store.create(TYPES.endpointSlices, "default", slice(bad))).code).toBe(422);
    }
    expect(store.create(TYPES.endpointSlices, "default", slice("10.0.0.1")).metadata.name).toMatch(/^web-.{5}$/);
  });

  it("keeps an object with a finalizer until the last one goes", () => {
    const store = new LabStore();
    store.create(TYPES.externalWorkloads, "default", workload("vm", { metadata: { name: "vm", finalizers: ["a/b"] } }));
    expect(store.delete(TYPES.externalWorkloads, "default", "vm").metadata.deletionTimestamp).toBeDefined();
    const going = store.get<Loose>(TYPES.externalWorkloads, "default", "vm");
    expect(going?.metadata.deletionTimestamp).toBeDefined();
    store.update(TYPES.externalWorkloads, "default", workload("vm"));
    expect(store.get(TYPES.externalWorkloads, "default", "vm")).toBeUndefined();
  });

  it("deletes what belonged to the deleted alone", () => {
    const store = new LabStore();
    const owner = store.create(TYPES.externalWorkloads, "default", workload("vm"));
    const reference = {
      apiVersion: "workload.linkerd.io/v1beta1",
      kind: "ExternalWorkload",
      name: "vm",
      uid: owner.metadata.uid ?? "",
    };
    store.create(TYPES.leases, "default", {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "vm", ownerReferences: [reference] },
    });
    store.delete(TYPES.externalWorkloads, "default", "vm");
    expect(store.list(TYPES.leases)).toEqual([]);
  });

  it("empties a namespace before it goes", () => {
    const store = new LabStore();
    store.create(TYPES.namespaces, undefined, { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
    store.create(TYPES.services, "shop", service("web"));
    store.create(TYPES.externalWorkloads, "shop", workload("vm", { metadata: { name: "vm", finalizers: ["a/b"] } }));
    store.delete(TYPES.namespaces, undefined, "shop");
    expect(store.list(TYPES.services, "shop")).toEqual([]);
    expect(store.get(TYPES.namespaces, undefined, "shop")?.metadata.deletionTimestamp).toBeDefined();
    expect(refusal(() => store.create(TYPES.services, "shop", service("late"))).code).toBe(403);
    store.update(TYPES.externalWorkloads, "shop", workload("vm", { metadata: { name: "vm" } }));
    expect(store.get(TYPES.namespaces, undefined, "shop")).toBeUndefined();
  });

  it("serves a stored object under every served version", () => {
    const store = new LabStore();
    const beta2 = { group: "policy.linkerd.io", version: "v1beta2", plural: "servers" };
    const spec = { podSelector: {}, port: 80 };
    const object = {
      apiVersion: "policy.linkerd.io/v1beta2",
      kind: "Server",
      metadata: { name: "s" },
      spec,
    } as unknown as KubeObject;
    expect(store.create(beta2, "default", object).apiVersion).toBe("policy.linkerd.io/v1beta2");
    expect(store.get({ ...beta2, version: "v1beta3" }, "default", "s")?.apiVersion).toBe("policy.linkerd.io/v1beta3");
  });

  it("serves a kind as soon as it is defined", () => {
    const store = new LabStore();
    const type = { group: "example.org", version: "v1", plural: "widgets" };
    expect(refusal(() => store.list(type)).code).toBe(404);
    const names = { kind: "Widget", plural: "widgets", singular: "widget" };
    store.create(TYPES.definitions, undefined, {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: "widgets.example.org" },
      spec: {
        group: "example.org",
        names,
        scope: "Namespaced",
        versions: [{ name: "v1", served: true, storage: true }],
      },
    } as unknown as KubeObject);
    store.create(type, "default", { apiVersion: "example.org/v1", kind: "Widget", metadata: { name: "w" } });
    expect(store.list(type)).toHaveLength(1);
  });

  it("tells a listener's own changes after the change that caused them", () => {
    const store = new LabStore();
    const heard: string[] = [];
    store.watch((event) => {
      if (event.object.metadata.name === "first") store.create(TYPES.services, "default", service("second"));
    });
    store.watch((event) => heard.push(event.object.metadata.name));
    store.create(TYPES.services, "default", service("first"));
    expect(heard).toEqual(["first", "second"]);
  });

  it("remembers changes for those who come back, and says when it no longer does", () => {
    const store = new LabStore({ history: 4 });
    const start = store.version;
    store.create(TYPES.services, "default", service("a"));
    expect(store.since(start)?.map((event) => event.object.metadata.name)).toEqual(["a"]);
    for (let index = 0; index < 20; index++) store.create(TYPES.services, "default", service(`b${index}`));
    expect(store.since(start)).toBeUndefined();
    expect(store.since(store.version)).toEqual([]);
  });
});
