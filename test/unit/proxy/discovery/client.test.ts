import { describe, expect, it } from "vitest";
import { plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";
import type { DiscoveryRequest } from "../../../../src/proxy/core/messages.ts";
import { DiscoveryClient } from "../../../../src/proxy/discovery/index.ts";
import {
  type Client,
  decideInbound,
  defaultInboundPolicy,
  fallbackPolicy,
  INVALID_INBOUND,
  type InboundPolicy,
} from "../../../../src/proxy/policy/index.ts";
import { requestHead } from "../../../support/http1.ts";
import { FakeTime } from "../../../support/time.ts";

const DEFAULT = defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 10_000, clusterNetworks: [] });

function make() {
  const time = new FakeTime();
  const sent: DiscoveryRequest[] = [];
  const client = new DiscoveryClient(
    { postMessage: (message) => sent.push(structuredClone(message)) },
    { clock: time, defaultInbound: () => DEFAULT },
  );
  const waiter = () => {
    const calls: string[] = [];
    return { calls, ready: () => calls.push("ready"), changed: () => calls.push("changed") };
  };
  return { time, sent, client, waiter };
}

const endpoint = (n: number) => plainEndpoint({ ip: `10.0.0.${n}`, port: 80 });
const state = (ip = "10.0.0.1", port = 80) => ({ policy: fallbackPolicy(ip, port), profile: undefined });

describe("worker's cache", () => {
  it("asks once per target", () => {
    const { client, sent } = make();
    const handle = client.outbound("10.0.0.1", 80);
    expect(client.outbound("10.0.0.1", 80)).toBe(handle);
    expect(client.outbound("10.0.0.1", 81)).not.toBe(handle);
    client.inbound(80);
    client.inbound(80);
    client.endpoints("a:80");
    client.endpoints("a:80");
    expect(sent.map(({ type, target }) => [type, target])).toEqual([
      ["discovery.watch", { kind: "outbound", ip: "10.0.0.1", port: 80 }],
      ["discovery.watch", { kind: "outbound", ip: "10.0.0.1", port: 81 }],
      ["discovery.watch", { kind: "inbound", port: 80 }],
      ["discovery.watch", { kind: "endpoints", path: "a:80" }],
    ]);
  });

  it("knows an address in every spelling", () => {
    const { client, sent } = make();
    const handle = client.outbound("FD00:0::1", 80);
    expect(client.outbound("fd00::1", 80)).toBe(handle);
    expect(sent).toHaveLength(1);
    client.receive({ type: "discovery.outbound", key: "outbound [fd00::1]:80", value: state() });
    expect(handle.state).toBe("ready");
  });

  it("wakes those who wait once, after listeners", () => {
    const { client, waiter } = make();
    const handle = client.outbound("10.0.0.1", 80);
    const one = waiter();
    const gone = waiter();
    handle.subscribe(one);
    handle.wait(one);
    handle.wait(gone);
    handle.cancel(gone);
    expect([handle.state, handle.current]).toEqual(["pending", undefined]);
    client.receive({ type: "discovery.outbound", key: "outbound 10.0.0.1:80", value: state() });
    expect([handle.state, handle.current?.policy.source]).toEqual(["ready", "fallback"]);
    client.receive({ type: "discovery.outbound", key: "outbound 10.0.0.1:80", value: state() });
    expect([one.calls, gone.calls]).toEqual([["changed", "ready", "changed"], []]);
    const late = waiter();
    handle.wait(late);
    expect(late.calls).toEqual(["ready"]);
  });

  it("says why there is no answer, and takes a later one", () => {
    const { client, waiter } = make();
    const handle = client.outbound("10.0.0.1", 80);
    const one = waiter();
    handle.wait(one);
    client.receive({ type: "discovery.failed", key: "outbound 10.0.0.1:80", failure: "unreachable", why: "no answer" });
    expect([handle.state, handle.failure, handle.why, one.calls]).toEqual([
      "failed",
      "unreachable",
      "no answer",
      ["ready"],
    ]);
    client.receive({ type: "discovery.outbound", key: "outbound 10.0.0.1:80", value: state() });
    expect([handle.state, handle.failure, handle.why]).toEqual(["ready", undefined, ""]);
  });

  it("never blocks inbound: the default policy holds until the first answer", () => {
    const { client } = make();
    const handle = client.inbound(8080);
    expect([handle.state, handle.current]).toEqual(["pending", DEFAULT]);
    client.receive({ type: "discovery.inbound", key: "inbound 8080", value: INVALID_INBOUND });
    expect([handle.state, handle.current.source]).toEqual(["ready", "invalid"]);
    client.receive({ type: "discovery.failed", key: "inbound 8080", failure: "refused", why: "" });
    expect(handle.current.source).toBe("invalid");
  });

  it("compiles the expressions of a policy that comes from another thread", () => {
    const { client } = make();
    const handle = client.inbound(80);
    const policy: InboundPolicy = {
      ...DEFAULT,
      protocol: {
        kind: "http1",
        rateLimits: undefined,
        routes: [
          {
            ref: DEFAULT.ref,
            hosts: [],
            authorizations: [],
            rules: [
              {
                matches: [
                  {
                    kind: "http",
                    method: undefined,
                    path: { kind: "regex", pattern: { source: "/v[0-9]+" } },
                    headers: [],
                    query: [],
                  },
                ],
                filters: [],
              },
            ],
          },
        ],
      },
    };
    client.receive({ type: "discovery.inbound", key: "inbound 80", value: structuredClone(policy) });
    const someone: Client = { ip: { version: 4, words: [1] }, tls: "none", id: undefined };
    expect(decideInbound(handle.current, requestHead({ path: "/v12" }), someone).kind).toBe("permit");
    expect(decideInbound(handle.current, requestHead({ path: "/v" }), someone).kind).toBe("not-found");
  });

  it("keeps endpoints as differences", () => {
    const { client } = make();
    const handle = client.endpoints("a:80");
    const changes: [string[], readonly string[]][] = [];
    const stop = handle.subscribe({
      changed: (add, remove) => changes.push([add.map(({ address }) => address.ip), remove]),
    });
    const key = "endpoints a:80";
    client.receive({ type: "discovery.endpoints", key, reset: true, add: [endpoint(1), endpoint(2)], remove: [] });
    client.receive({ type: "discovery.endpoints", key, reset: false, add: [endpoint(3)], remove: ["10.0.0.1:80"] });
    client.receive({ type: "discovery.endpoints", key, reset: true, add: [endpoint(3), endpoint(4)], remove: [] });
    stop();
    client.receive({ type: "discovery.endpoints", key, reset: false, add: [], remove: ["10.0.0.4:80"] });
    expect(changes).toEqual([
      [["10.0.0.1", "10.0.0.2"], []],
      [["10.0.0.3"], ["10.0.0.1:80"]],
      [["10.0.0.3", "10.0.0.4"], ["10.0.0.2:80"]],
    ]);
    expect([...handle.current.keys()]).toEqual(["10.0.0.3:80"]);
  });

  it("drops what nobody used for its idle time, and no earlier", () => {
    const { client, time, sent } = make();
    const outbound = client.outbound("10.0.0.1", 80);
    client.inbound(80);
    outbound.retain();
    time.advance(60_000);
    client.expire(time.now());
    expect(client.size).toBe(2);
    outbound.release();
    time.advance(4_999);
    client.expire(time.now());
    expect(client.size).toBe(2);
    time.advance(1);
    client.expire(time.now());
    expect(sent.at(-1)).toEqual({ type: "discovery.unwatch", target: { kind: "outbound", ip: "10.0.0.1", port: 80 } });
    expect(client.size).toBe(1);
    time.advance(25_000);
    client.expire(time.now());
    expect(client.size).toBe(0);
    expect(client.outbound("10.0.0.1", 80)).not.toBe(outbound);
  });

  it("does not drop what somebody waits for", () => {
    const { client, time, waiter } = make();
    client.outbound("10.0.0.1", 80).wait(waiter());
    time.advance(60_000);
    client.expire(time.now());
    expect(client.size).toBe(1);
  });

  it("ignores messages about what it has dropped", () => {
    const { client } = make();
    client.receive({ type: "discovery.outbound", key: "outbound 10.0.0.1:80", value: state() });
    expect(client.size).toBe(0);
  });
});
