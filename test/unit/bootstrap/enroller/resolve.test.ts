import { beforeEach, describe, expect, it } from "vitest";
import { Resolver } from "../../../../src/bootstrap/enroller/resolve.ts";
import { ENDPOINT_SLICES, SERVICES } from "../../../../src/bootstrap/enroller/resources.ts";
import { MemoryKube } from "../../../support/memory-kube.ts";

const DOMAIN = "cluster.local";
let kube: MemoryKube;
let resolver: Resolver;

beforeEach(async () => {
  kube = new MemoryKube();
  resolver = new Resolver(kube);
  const service = (name: string, spec: object) =>
    kube.create(SERVICES, "shop", { apiVersion: "v1", kind: "Service", metadata: { name }, spec } as never);
  const ports = [
    { name: "http", port: 80, targetPort: 8080 },
    { name: "dns", port: 53, protocol: "UDP" },
    { name: "dns-tcp", port: 53, protocol: "TCP" },
  ];
  await service("web", { clusterIP: "10.43.0.7", clusterIPs: ["10.43.0.7", "fd00:43::7"], ports });
  await service("db", { clusterIP: "None", ports: [{ name: "sql", port: 5432 }] });
  await service("empty", { clusterIP: "None", ports: [{ name: "sql", port: 5432 }] });
  await service("away", { type: "ExternalName", externalName: "example.org", ports });
  const slice = (name: string, rest: object) =>
    kube.create(ENDPOINT_SLICES, "shop", {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name, labels: { "kubernetes.io/service-name": "db" } },
      ...rest,
    } as never);
  const sql = [{ name: "sql", port: 15432, protocol: "TCP" }];
  await slice("db-1", {
    addressType: "IPv4",
    ports: sql,
    endpoints: [
      { addresses: ["10.42.0.3"], hostname: "db-0", conditions: { ready: true } },
      { addresses: ["10.42.0.4"], conditions: {} },
      { addresses: ["10.42.0.5"], hostname: "db-9", conditions: { ready: false } },
    ],
  });
  await slice("db-2", {
    addressType: "IPv6",
    ports: sql,
    endpoints: [{ addresses: ["fd00:42::3"], hostname: "db-0", conditions: { ready: true } }],
  });
});

const resolve = (name: string) => resolver.resolve(`${name}.shop.svc.${DOMAIN}`, DOMAIN, 0);
const nothing = { exists: false, addresses: [], services: [] };
const target = (name: string) => `${name}.shop.svc.${DOMAIN}`;

describe("a name", () => {
  it("of a Service has the Service's addresses", async () => {
    expect(await resolve("web")).toEqual({ exists: true, addresses: ["10.43.0.7", "fd00:43::7"], services: [] });
    expect(await resolve("WEB")).toMatchObject({ exists: true });
    expect(await resolve("none")).toEqual(nothing);
    expect(await resolve("away")).toEqual(nothing);
    expect(await resolve("host.web")).toEqual(nothing);
  });

  it("of a headless Service has those of its ready endpoints, and each of them a name", async () => {
    expect((await resolve("db")).addresses).toEqual(["10.42.0.3", "10.42.0.4", "fd00:42::3"]);
    expect((await resolve("db-0.db")).addresses).toEqual(["10.42.0.3", "fd00:42::3"]);
    expect((await resolve("10-42-0-4.db")).addresses).toEqual(["10.42.0.4"]);
    // One that has a hostname has no other name.
    for (const name of ["10-42-0-3.db", "db-9.db", "db-1.db"]) expect(await resolve(name)).toEqual(nothing);
    expect(await resolve("empty")).toEqual({ exists: true, addresses: [], services: [] });
  });

  it("of a port leads to the Service", async () => {
    const at = (port: number) => ({ exists: true, addresses: [], services: [{ port, target: target("web") }] });
    expect(await resolve("_http._tcp.web")).toEqual(at(80));
    expect(await resolve("_dns._udp.web")).toEqual(at(53));
    expect(await resolve("_dns-tcp._tcp.web")).toEqual(at(53));
    for (const name of ["_dns._tcp.web", "_http._udp.web", "_none._tcp.web", "_http._tcp.away", "_http._tcp.none"])
      expect(await resolve(name)).toEqual(nothing);
    // Something is beneath it.
    expect(await resolve("_tcp.web")).toEqual({ exists: true, addresses: [], services: [] });
  });

  it("of a headless Service's port leads to its endpoints, by names that resolve", async () => {
    const { exists, addresses, services } = await resolve("_sql._tcp.db");
    expect({ exists, addresses }).toEqual({ exists: true, addresses: [] });
    expect(services).toEqual([
      { port: 15432, target: target("10-42-0-4.db") },
      { port: 15432, target: target("db-0.db") },
    ]);
    for (const { target: name } of services)
      expect((await resolver.resolve(name, DOMAIN, 0)).addresses).not.toEqual([]);
    expect(await resolve("_sql._tcp.empty")).toEqual({ exists: true, addresses: [], services: [] });
  });

  it("that cannot be one is asked of nobody", async () => {
    const asked: string[] = [];
    kube.fault = (call) => void asked.push(call);
    for (const name of [
      "_http.web",
      "_http._sip.web",
      "http._tcp.web",
      "_http.tcp.web",
      "a._http._tcp.web",
      "_.web",
      "_web",
    ])
      expect(await resolve(name)).toEqual(nothing);
    expect(await resolver.resolve("web.shop.svc.example.org", DOMAIN, 0)).toEqual(nothing);
    expect(asked).toEqual([]);
  });
});
