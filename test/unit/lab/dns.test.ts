import { Resolver } from "node:dns/promises";
import { describe, expect, it } from "vitest";
import type { KubeObject } from "../../../src/bootstrap/enroller/kubernetes.ts";
import { LabStore, TYPES } from "../../../src/lab/api/index.ts";
import { answerTo, resolveIn, startDns } from "../../../src/lab/dns.ts";

function lab(): LabStore {
  const store = new LabStore();
  const service = (name: string, clusterIP: string) =>
    store.create(TYPES.services, "default", {
      kind: "Service",
      metadata: { name },
      spec: { clusterIP, ports: [{ port: 80 }] },
    } as unknown as KubeObject);
  service("web", "10.96.0.9");
  service("headless", "None");
  store.create(TYPES.endpointSlices, "default", {
    kind: "EndpointSlice",
    metadata: { name: "s", labels: { "kubernetes.io/service-name": "headless" } },
    addressType: "IPv4",
    endpoints: [
      { addresses: ["10.1.0.1"], hostname: "a", conditions: { ready: true } },
      { addresses: ["10.1.0.2"], hostname: "b", conditions: { ready: false } },
    ],
  } as unknown as KubeObject);
  return store;
}

describe("the cluster's names", () => {
  const resolve = resolveIn(lab(), "cluster.local");
  it.each([
    ["web.default.svc.cluster.local", ["10.96.0.9"]],
    ["headless.default.svc.cluster.local", ["10.1.0.1"]],
    ["a.headless.default.svc.cluster.local", ["10.1.0.1"]],
    ["b.headless.default.svc.cluster.local", undefined],
    ["x.web.default.svc.cluster.local", undefined],
    ["none.default.svc.cluster.local", undefined],
    ["web.default.cluster.local", undefined],
    ["default.svc.cluster.local", undefined],
  ])("%s: %j", (name, addresses) => {
    expect(resolve(name)).toEqual(addresses);
  });
});

describe("the DNS server", () => {
  it("answers a stub resolver", async () => {
    const socket = await startDns("127.0.0.1", 0, "cluster.local", resolveIn(lab(), "cluster.local"));
    const resolver = new Resolver({ tries: 1 });
    resolver.setServers([`127.0.0.1:${socket.address().port}`]);
    expect(await resolver.resolve4("WEB.default.svc.cluster.local")).toEqual(["10.96.0.9"]);
    await expect(resolver.resolve6("web.default.svc.cluster.local")).rejects.toMatchObject({ code: "ENODATA" });
    await expect(resolver.resolve4("no.default.svc.cluster.local")).rejects.toMatchObject({ code: "ENOTFOUND" });
    await expect(resolver.resolve4("example.org")).rejects.toMatchObject({ code: "EREFUSED" });
    socket.close();
  });

  it("says nothing to what is no query", () => {
    const response = Buffer.from("000181000001000000000000037765620000010001", "hex");
    expect(answerTo(response, "cluster.local", () => [])).toBeUndefined();
    expect(answerTo(Buffer.alloc(3), "cluster.local", () => [])).toBeUndefined();
    const pointer = Buffer.from("000101000001000000000000c00c00010001", "hex");
    expect(answerTo(pointer, "cluster.local", () => [])).toBeUndefined();
  });
});
