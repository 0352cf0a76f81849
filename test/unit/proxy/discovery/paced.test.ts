import { describe, expect, it } from "vitest";
import { plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";
import type { DiscoveryMessage } from "../../../../src/proxy/discovery/index.ts";
import { CHUNK, isLong, Paced } from "../../../../src/proxy/discovery/paced.ts";

const message = (count: number, key = "endpoints a:80"): DiscoveryMessage => ({
  type: "discovery.endpoints",
  key,
  reset: false,
  add: Array.from({ length: count }, (_, i) => plainEndpoint({ ip: "10.0.0.1", port: i + 1 })),
  remove: [],
});

describe("what a worker is told", () => {
  function make() {
    const sent: DiscoveryMessage[] = [];
    const paced = new Paced((each) => void sent.push(each));
    return { sent, paced };
  }

  it("comes at once, and after a long message nothing until it has been taken in", () => {
    const { sent, paced } = make();
    paced.send(message(1));
    paced.send(message(2));
    expect(sent).toHaveLength(2);
    for (let i = 0; i < 4; i++) paced.send(message(CHUNK));
    for (let seen = 3; seen <= 6; seen++) {
      expect(sent).toHaveLength(seen);
      paced.taken();
    }
    expect(sent).toHaveLength(6);
    paced.send(message(1));
    expect(sent).toHaveLength(7);
  });

  it("keeps its order", () => {
    const { sent, paced } = make();
    paced.send(message(CHUNK, "first"));
    paced.send(message(0, "second"));
    paced.send(message(CHUNK, "third"));
    expect(sent.map(({ key }) => key)).toEqual(["first"]);
    paced.taken();
    expect(sent.map(({ key }) => key)).toEqual(["first", "second", "third"]);
  });

  it("goes on where the worker answers before the message has left", () => {
    const sent: DiscoveryMessage[] = [];
    const paced: Paced = new Paced((each) => {
      sent.push(each);
      if (isLong(each)) paced.taken();
    });
    for (let i = 0; i < 3; i++) paced.send(message(CHUNK));
    expect(sent).toHaveLength(3);
  });

  it("ends with the worker", () => {
    const { sent, paced } = make();
    paced.send(message(CHUNK));
    paced.send(message(CHUNK));
    paced.stop();
    paced.taken();
    expect(sent).toHaveLength(1);
  });

  it("is long with many keys of endpoints that are gone, too", () => {
    const remove = Array.from({ length: CHUNK }, (_, i) => `10.0.0.1:${i}`);
    expect(isLong({ type: "discovery.endpoints", key: "endpoints a:80", reset: false, add: [], remove })).toBe(true);
    expect(isLong(message(1))).toBe(false);
  });
});
