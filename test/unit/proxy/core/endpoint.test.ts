import { describe, expect, it } from "vitest";
import { type Endpoint, plainEndpoint, sameEndpoint } from "../../../../src/proxy/core/endpoint.ts";

const base: Endpoint = {
  ...plainEndpoint({ ip: "10.0.0.1", port: 80 }),
  identity: { kind: "dns", id: "a.b", serverName: "a.b" },
  labels: { pod: "a" },
  http2: {
    initialConnectionWindowBytes: undefined,
    initialStreamWindowBytes: undefined,
    adaptiveFlowControl: false,
    keepAlive: { intervalMs: 10_000, timeoutMs: 3_000, whileIdle: true },
    maxConcurrentResetStreams: undefined,
    maxFrameBytes: undefined,
    maxSendBufferBytes: undefined,
  },
};

describe("endpoint", () => {
  it("is keyed by its address", () => {
    expect(plainEndpoint({ ip: "fd00::1", port: 80 }).key).toBe("[fd00::1]:80");
  });

  it("is the same after a trip through a message", () => {
    expect(sameEndpoint(base, structuredClone(base))).toBe(true);
  });

  it.each<[string, Partial<Endpoint>]>([
    ["identity", { identity: { kind: "dns", id: "c.b", serverName: "a.b" } }],
    ["no identity", { identity: undefined }],
    ["expected identity", { expectsIdentity: true }],
    ["hint", { hint: "h2" }],
    ["inbound port", { inboundPort: 4143 }],
    ["authority", { authorityOverride: "a:80" }],
    ["weight", { weight: 1 }],
    ["zone", { zone: "z" }],
    ["locality", { zoneLocality: "local" }],
    ["a label's value", { labels: { pod: "b" } }],
    ["another label", { labels: { pod: "a", more: "b" } }],
    ["a label less", { labels: {} }],
    ["HTTP/2", { http2: undefined }],
  ])("differs by %s", (_, change) => {
    expect(sameEndpoint(base, { ...base, ...change })).toBe(false);
  });
});
