import { describe, expect, it } from "vitest";
import type { Endpoint } from "../../../../src/proxy/core/endpoint.ts";
import { decodeEndpoint, EndpointTable } from "../../../../src/proxy/discovery/endpoints.ts";
import {
  add,
  IDENTITY,
  noEndpoints,
  podAddr,
  remove,
  seconds,
  type UpdateInit,
  update,
  type WeightedAddrInit,
  weightedAddr,
} from "../../../support/mesh-messages.ts";

const decode = (init: WeightedAddrInit, labels = {}): Endpoint => {
  const endpoint = decodeEndpoint(weightedAddr(init), labels);
  if (endpoint === undefined) throw new Error("no endpoint");
  return endpoint;
};

describe("endpoint", () => {
  it("of a meshed pod", () => {
    expect(decode(podAddr("10.0.0.1"), { service: "web", pod: "overridden" })).toEqual({
      key: "10.0.0.1:8080",
      address: { ip: "10.0.0.1", port: 8080 },
      identity: { kind: "dns", id: IDENTITY, serverName: IDENTITY },
      expectsIdentity: true,
      hint: "h2",
      inboundPort: 4143,
      authorityOverride: undefined,
      weight: 10_000,
      zone: undefined,
      zoneLocality: "unknown",
      labels: { service: "web", pod: "pod-10.0.0.1" },
      http2: undefined,
    });
  });

  it("of a pod outside the mesh", () => {
    expect(decode(podAddr("10.0.0.1", { tlsIdentity: undefined, protocolHint: undefined }))).toMatchObject({
      identity: undefined,
      expectsIdentity: false,
      hint: undefined,
      inboundPort: undefined,
    });
  });

  const SPIFFE = "spiffe://cluster.local/ns/shop/sa/web";
  const dns = (name: string) => ({ case: "dnsLikeIdentity" as const, value: { name } });
  const uri = (text: string) => ({ case: "uriLikeIdentity" as const, value: { uri: text } });
  it.each<[string, NonNullable<WeightedAddrInit["tlsIdentity"]>, Endpoint["identity"]]>([
    ["name alone", { strategy: dns("A.b") }, { kind: "dns", id: "a.b", serverName: "a.b" }],
    [
      "name and server name",
      { strategy: dns("a.b"), serverName: { name: "c.d" } },
      { kind: "dns", id: "a.b", serverName: "c.d" },
    ],
    [
      "URI and server name",
      { strategy: uri(SPIFFE), serverName: { name: "c.d" } },
      { kind: "uri", id: SPIFFE, serverName: "c.d" },
    ],
    ["URI alone", { strategy: uri(SPIFFE) }, undefined],
    ["a name where a URI should be", { strategy: uri("a.b"), serverName: { name: "c.d" } }, undefined],
    ["no name", { strategy: dns("") }, undefined],
    ["bad server name", { strategy: dns("a.b"), serverName: { name: "*.d" } }, undefined],
    ["unknown strategy", {}, undefined],
  ])("whose identity is %s", (_, tlsIdentity, identity) => {
    const endpoint = decode(podAddr("10.0.0.1", { tlsIdentity }));
    expect(endpoint.identity).toEqual(identity);
    expect(endpoint.expectsIdentity).toBe(true);
  });

  it.each([
    [0, undefined],
    [1, 1],
    [65_534, 65_534],
    [65_535, undefined],
    [70_000, undefined],
  ])("with inbound port %d", (inboundPort, expected) => {
    expect(decode(podAddr("10.0.0.1", { protocolHint: { opaqueTransport: { inboundPort } } })).inboundPort).toBe(
      expected,
    );
  });

  it("behind a gateway, in a zone", () => {
    expect(
      decode(
        podAddr("10.0.0.1", {
          authorityOverride: { authorityOverride: "web.shop.svc.other:80" },
          metricLabels: { zone: "a", zone_locality: "LOCAL" },
        }),
      ),
    ).toMatchObject({ authorityOverride: "web.shop.svc.other:80", zone: "a", zoneLocality: "local" });
    expect(
      decode(podAddr("10.0.0.1", { authorityOverride: { authorityOverride: "a b" } })).authorityOverride,
    ).toBeUndefined();
    expect(decode(podAddr("10.0.0.1", { metricLabels: { zone_locality: "elsewhere" } })).zoneLocality).toBe("unknown");
  });

  it("with HTTP/2 parameters, each group only if it is whole", () => {
    const http2 = (init: WeightedAddrInit["http2"] & object) => decode(podAddr("10.0.0.1", { http2: init })).http2;
    expect(http2({ keepAlive: { interval: seconds(10), timeout: seconds(3), whileIdle: true } })?.keepAlive).toEqual({
      intervalMs: 10_000,
      timeoutMs: 3_000,
      whileIdle: true,
    });
    expect(http2({ keepAlive: { interval: seconds(10) } })?.keepAlive).toBeUndefined();
    expect(http2({ flowControl: { initialConnectionWindowSize: 9 } })?.initialConnectionWindowBytes).toBeUndefined();
    expect(
      http2({
        flowControl: { initialConnectionWindowSize: 9, initialStreamWindowSize: 8, adaptiveFlowControl: true },
        internals: { maxFrameSize: 20_000 },
      }),
    ).toMatchObject({
      initialConnectionWindowBytes: 9,
      initialStreamWindowBytes: 8,
      adaptiveFlowControl: true,
      maxFrameBytes: 20_000,
      maxSendBufferBytes: undefined,
    });
  });

  it("is none without an address", () => {
    expect(decodeEndpoint(weightedAddr({}), {})).toBeUndefined();
    expect(decodeEndpoint(weightedAddr({ addr: { port: 80 } }), {})).toBeUndefined();
  });

  it("has its port cut to 16 bits", () => {
    expect(
      decode(podAddr("10.0.0.1", { addr: { ip: { ip: { case: "ipv4", value: 0x0a000001 } }, port: 65_536 + 80 } })).key,
    ).toBe("10.0.0.1:80");
  });

  it("of IPv6", () => {
    const value = { first: 0xfd00_0000_0000_0000n, last: 1n };
    expect(decode(podAddr("10.0.0.1", { addr: { ip: { ip: { case: "ipv6", value } }, port: 80 } })).key).toBe(
      "[fd00::1]:80",
    );
  });
});

describe("endpoint table", () => {
  /** Applies updates in turn; `|` is a new stream. */
  function play(...steps: (UpdateInit | "|")[]) {
    const table = new EndpointTable();
    const log: string[] = [];
    for (const step of steps) {
      if (step === "|") {
        table.reconnected();
        continue;
      }
      const change = table.apply(update(step));
      const added = change?.add.map(({ address }) => `+${address.ip.slice(-1)}`) ?? ["none"];
      log.push([...added, ...(change?.remove.map((key) => `-${key.split(":")[0]?.slice(-1)}`) ?? [])].join(""));
    }
    return { log, known: [...table.endpoints.keys()].map((key) => key.split(":")[0]?.slice(-1)).join("") };
  }
  const a = podAddr("10.0.0.1");
  const b = podAddr("10.0.0.2");
  const c = podAddr("10.0.0.3");

  it.each<[string, (UpdateInit | "|")[], string[], string]>([
    ["adds", [add(a), add(b)], ["+1", "+2"], "12"],
    ["the same again has no effect", [add(a), add(a)], ["+1", ""], "1"],
    ["changed metadata", [add(a), add(podAddr("10.0.0.1", { metricLabels: {} }))], ["+1", "+1"], "1"],
    ["removes, also what is unknown", [add(a, b), remove("10.0.0.1", "10.0.0.9")], ["+1+2", "-1"], "2"],
    ["first add after a reconnect replaces", [add(a, b), "|", add(b, c)], ["+1+2", "+3-1"], "23"],
    ["only the first", [add(a), "|", add(b), add(c)], ["+1", "+2-1", "+3"], "23"],
    ["first remove after a reconnect is ignored", [add(a, b), "|", remove("10.0.0.1")], ["+1+2", "none"], "12"],
    ["and the next add still replaces", [add(a), "|", remove("10.0.0.1"), add(b)], ["+1", "none", "+2-1"], "2"],
    ["an empty add is nothing", [add(a), "|", add(), add(b)], ["+1", "none", "+2-1"], "2"],
    ["nor is one without addresses", [add({ weight: 1 })], ["none"], ""],
    ["unreadable entries are skipped", [add({ weight: 1 }, a)], ["+1"], "1"],
    ["no endpoints", [add(a, b), noEndpoints(true)], ["+1+2", "-1-2"], ""],
    ["no such name", [add(a), noEndpoints(false), add(b)], ["+1", "-1", "+2"], "2"],
    ["an unknown update", [add(a), {}], ["+1", "none"], "1"],
  ])("%s", (_, steps, log, known) => {
    expect(play(...steps)).toEqual({ log, known });
  });

  it("starts with what was stored, until the first add", () => {
    const stored = new EndpointTable();
    stored.apply(update(add(a, b)));
    const table = new EndpointTable(JSON.parse(JSON.stringify([...stored.endpoints.values()])));
    const change = table.apply(update(add(b, c)));
    expect([change?.add.map(({ key }) => key), change?.remove]).toEqual([["10.0.0.3:8080"], ["10.0.0.1:8080"]]);
  });
});
