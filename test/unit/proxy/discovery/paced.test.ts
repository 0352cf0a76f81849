import { describe, expect, it } from "vitest";
import { plainEndpoint } from "../../../../src/proxy/core/endpoint.ts";
import type { DiscoveryMessage } from "../../../../src/proxy/discovery/index.ts";
import { LONG, Paced } from "../../../../src/proxy/discovery/paced.ts";
import { FakeTime } from "../../../support/time.ts";

const message = (count: number, key = "endpoints a:80"): DiscoveryMessage => ({
  type: "discovery.endpoints",
  key,
  reset: false,
  add: Array.from({ length: count }, (_, i) => plainEndpoint({ ip: "10.0.0.1", port: i + 1 })),
  remove: [],
});

describe("what a worker is told", () => {
  function make() {
    const time = new FakeTime();
    const sent: DiscoveryMessage[] = [];
    const paced = new Paced((each) => void sent.push(each), time);
    return { time, sent, paced };
  }

  it("comes at once, and one long message at a time", () => {
    const { time, sent, paced } = make();
    paced.send(message(1));
    paced.send(message(2));
    expect(sent).toHaveLength(2);
    for (let i = 0; i < 4; i++) paced.send(message(LONG));
    expect(sent).toHaveLength(3);
    for (let seen = 3; seen < 6; seen++) {
      expect(sent).toHaveLength(seen);
      time.advance(3);
    }
    expect(sent).toHaveLength(6);
  });

  it("keeps its order", () => {
    const { time, sent, paced } = make();
    paced.send(message(LONG, "first"));
    paced.send(message(0, "second"));
    paced.send(message(LONG, "third"));
    expect(sent.map(({ key }) => key)).toEqual(["first"]);
    time.advance(100);
    expect(sent.map(({ key }) => key)).toEqual(["first", "second", "third"]);
  });

  it("ends with the worker", () => {
    const { time, sent, paced } = make();
    paced.send(message(LONG));
    paced.send(message(LONG));
    paced.stop();
    time.advance(100);
    expect([sent.length, time.armed]).toEqual([1, 0]);
  });
});
