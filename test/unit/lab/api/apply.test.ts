import { describe, expect, it } from "vitest";
import type { KubeObject } from "../../../../src/bootstrap/enroller/kubernetes.ts";
import { LabError, LabStore, TYPES } from "../../../../src/lab/api/index.ts";

type Loose = KubeObject & { spec: Record<string, unknown>; status?: unknown; data?: unknown };

const config = (data: object, labels?: object) =>
  ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "c", ...(labels ? { labels } : {}) },
    data,
  }) as unknown as Loose;

function apply(store: LabStore, fieldManager: string, object: Loose, force = false): Loose {
  return store.apply(TYPES.configMaps, "default", object, { fieldManager, force });
}

describe("server-side apply", () => {
  it("creates, then merges what several managers own", () => {
    const store = new LabStore();
    apply(store, "one", config({ a: "1" }));
    const both = apply(store, "two", config({ b: "2" }));
    expect(both["data"]).toEqual({ a: "1", b: "2" });
  });

  it("removes what its owner no longer applies, unless somebody else owns it too", () => {
    const store = new LabStore();
    apply(store, "one", config({ a: "1", b: "2", shared: "s" }));
    apply(store, "two", config({ shared: "s" }));
    const after = apply(store, "one", config({ a: "1" }));
    expect(after["data"]).toEqual({ a: "1", shared: "s" });
  });

  it("reports a contested field, and with force takes it over", () => {
    const store = new LabStore();
    apply(store, "one", config({ a: "1" }));
    const attempt = () => apply(store, "two", config({ a: "2" }));
    expect(attempt).toThrow(LabError);
    expect(attempt).toThrow('Apply failed with 1 conflict: conflict with "one": .data.a');
    expect(apply(store, "two", config({ a: "2" }), true)["data"]).toEqual({ a: "2" });
    // "one" owns nothing now: applying nothing removes nothing.
    expect(apply(store, "one", config({ other: "x" }))["data"]).toEqual({ a: "2", other: "x" });
  });

  it("leaves alone what used to be a map and is something else by now", () => {
    const store = new LabStore();
    apply(store, "one", config({ a: { b: "1" } }));
    apply(store, "two", config({ a: [] }), true);
    expect(apply(store, "one", config({}))["data"]).toEqual({ a: [] });
  });

  it("does not contest a value on which both agree", () => {
    const store = new LabStore();
    apply(store, "one", config({ a: "1" }));
    expect(apply(store, "two", config({ a: "1" }))["data"]).toEqual({ a: "1" });
  });

  it("changes nothing when the same is applied again", () => {
    let now = 0;
    const store = new LabStore({ now: () => now });
    const first = apply(store, "one", config({ a: "1" }, { x: "y" }));
    now = 60_000;
    expect(apply(store, "one", config({ a: "1" }, { x: "y" })).metadata.resourceVersion).toBe(
      first.metadata.resourceVersion,
    );
  });

  it("gives a field to whoever updates it", () => {
    const store = new LabStore();
    const made = apply(store, "one", config({ a: "1", b: "2" }));
    store.update(TYPES.configMaps, "default", { ...made, data: { a: "9", b: "2" } } as unknown as Loose, {
      fieldManager: "editor",
    });
    expect(() => apply(store, "one", config({ a: "1", b: "2" }))).toThrow('conflict with "editor": .data.a');
  });

  it("merges the ports of a service by number and protocol", () => {
    const store = new LabStore();
    const service = (ports: object[]) =>
      ({ apiVersion: "v1", kind: "Service", metadata: { name: "s" }, spec: { ports } }) as unknown as Loose;
    store.apply(TYPES.services, "default", service([{ name: "http", port: 80 }]), { fieldManager: "one" });
    const two = store.apply(TYPES.services, "default", service([{ name: "grpc", port: 81 }]), { fieldManager: "two" });
    const names = (object: Loose) =>
      (object["spec"]["ports"] as unknown as { name: string }[]).map((port) => port.name);
    expect(names(two)).toEqual(["http", "grpc"]);
    const gone = store.apply(TYPES.services, "default", service([{ name: "dns", port: 53, protocol: "UDP" }]), {
      fieldManager: "one",
    });
    expect(names(gone)).toEqual(["grpc", "dns"]);
  });

  it("treats the lists of an ExternalWorkload as one value, and its status as a world of its own", () => {
    const store = new LabStore();
    const tls = { identity: "spiffe://td/x", serverName: "x" };
    const vm = (rest: object) =>
      ({
        apiVersion: "workload.linkerd.io/v1beta1",
        kind: "ExternalWorkload",
        metadata: { name: "vm" },
        ...rest,
      }) as unknown as Loose;
    const write = (rest: object, part: object = {}) =>
      store.apply(TYPES.externalWorkloads, "default", vm(rest), { fieldManager: "enroller", force: true, ...part });
    write({ spec: { meshTLS: tls, ports: [{ port: 1 }, { port: 2 }] } });
    expect(write({ spec: { meshTLS: tls, ports: [{ port: 3 }] } })["spec"]["ports"]).toEqual([
      { port: 3, protocol: "TCP" },
    ]);
    const conditions = [{ type: "Ready", status: "True" }];
    const status = write({ status: { conditions }, spec: { ports: [] } }, { subresource: "status" });
    expect(status["status"]).toEqual({ conditions });
    expect(status["spec"]["ports"]).toEqual([{ port: 3, protocol: "TCP" }]);
    expect(write({ spec: { meshTLS: tls } })["status"]).toEqual({ conditions });
    expect(store.get<Loose>(TYPES.externalWorkloads, "default", "vm")?.["spec"]).toEqual({ meshTLS: tls });
  });

  it("refuses the status of what does not exist", () => {
    const store = new LabStore();
    const object = { apiVersion: "workload.linkerd.io/v1beta1", kind: "ExternalWorkload", metadata: { name: "vm" } };
    const write = () =>
      store.apply(TYPES.externalWorkloads, "default", object, { fieldManager: "x", subresource: "status" });
    expect(write).toThrow('externalworkloads.workload.linkerd.io "vm" not found');
  });
});
