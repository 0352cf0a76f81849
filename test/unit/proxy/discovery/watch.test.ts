import { describe, expect, it } from "vitest";
import { DEFAULT_WATCH_LIMITS, type WatchLimits } from "../../../../src/proxy/discovery/index.ts";
import { Watch } from "../../../../src/proxy/discovery/watch.ts";
import { FakeGrpcClient } from "../../../support/grpc-client.ts";
import { FakeTime } from "../../../support/time.ts";

function make(options: { limits?: WatchLimits | undefined; connected?: boolean; rng?: number } = {}) {
  const time = new FakeTime();
  const client = new FakeGrpcClient();
  const log: string[] = [];
  const state = { connected: options.connected ?? true, broken: false };
  const watch = new Watch<string>(
    {
      open: () => {
        if (state.broken) throw new Error("closed");
        const text = (bytes: Buffer): string => bytes.toString();
        return state.connected ? client.makeServerStreamRequest("/s/m", Buffer.from, text, "") : undefined;
      },
      opened: () => log.push("opened"),
      message: (message) => log.push(message),
      refused: (code, why) => log.push(`refused ${code} ${why}`),
      interrupted: (why) => log.push(`interrupted ${why}`),
    },
    new Set([3, 9]),
    {
      clock: time,
      timers: time,
      rng: () => options.rng ?? 0,
      limits: "limits" in options ? options.limits : DEFAULT_WATCH_LIMITS,
    },
  );
  const say = (text: string): void => client.last("m").send(Buffer.from(text));
  return { time, client, log, watch, state, say };
}

describe("watch", () => {
  it("hears messages", () => {
    const { watch, log, say } = make();
    watch.start();
    expect(watch.state).toBe("opening");
    say("a");
    say("b");
    expect([watch.state, log]).toEqual(["live", ["opened", "a", "b"]]);
  });

  it("opens again after an error, later and later", () => {
    const { watch, client, time } = make();
    watch.start();
    const waits: number[] = [];
    for (let i = 0; i < 12; i++) {
      client.last("m").error(13, "oops");
      const before = client.calls.length;
      let waited = 0;
      for (; client.calls.length === before; waited += 50) time.advance(50);
      waits.push(waited);
    }
    expect(waits).toEqual([100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000]);
  });

  // 1: how the streams of a server end that goes down without a word.
  it.each([14, 4, 1])("asks an absent server every few seconds: code %d", (code) => {
    const { watch, client, time } = make();
    watch.start();
    for (let i = 0; i < 12; i++) {
      client.last("m").error(code, "gone");
      const before = client.calls.length;
      let waited = 0;
      for (; client.calls.length === before; waited += 50) time.advance(50);
      expect(waited).toBeLessThanOrEqual(4_000);
    }
  });

  it("adds up to a tenth to every wait", () => {
    const { watch, client, time } = make({ rng: 0.999 });
    watch.start();
    client.last("m").error(13, "oops");
    time.advance(109);
    expect(client.calls).toHaveLength(1);
    time.advance(1);
    expect(client.calls).toHaveLength(2);
  });

  it("starts over with short waits once a stream has held", () => {
    const { watch, client, time, say } = make();
    watch.start();
    for (let i = 0; i < 6; i++) {
      client.last("m").error(13, "oops");
      time.advance(60_000);
    }
    say("a");
    time.advance(10_000);
    client.last("m").error(13, "oops");
    const before = client.calls.length;
    time.advance(100);
    expect(client.calls).toHaveLength(before + 1);
  });

  it("does not run after a server that answers and hangs up", () => {
    const { watch, client, time } = make();
    watch.start();
    let last = client.calls[0];
    for (let i = 0; i < 60_000 / 50; i++) {
      if (client.last("m") !== last || i === 0) {
        last = client.last("m");
        last.send(Buffer.from("x"));
        last.end();
      }
      time.advance(50);
    }
    expect(client.calls.length).toBeLessThan(15);
  });

  it("opens again when the server ends the stream", () => {
    const { watch, client, time, say, log } = make();
    watch.start();
    say("a");
    client.last("m").end();
    expect(watch.state).toBe("waiting");
    time.advance(100);
    expect(log).toEqual(["opened", "a", "interrupted stream ended", "opened"]);
  });

  it.each([3, 9])("ends for good with code %d", (code) => {
    const { watch, client, time, log } = make();
    watch.start();
    client.last("m").error(code, "no");
    time.advance(1e8);
    expect([watch.state, client.calls.length, time.armed]).toEqual(["over", 1, 0]);
    expect(log.at(-1)).toBe(`refused ${code} no`);
  });

  it("does not wait for a first message for ever", () => {
    const { watch, client, time } = make();
    watch.start();
    time.advance(2_999);
    expect(client.last("m").cancelled).toBe(false);
    time.advance(1);
    expect([client.calls[0]?.cancelled, watch.state]).toEqual([true, "waiting"]);
    time.advance(100);
    expect(client.open("m")).toHaveLength(1);
  });

  it("opens again when nothing was said for too long", () => {
    const { watch, client, time, say } = make();
    watch.start();
    say("a");
    time.advance(299_000);
    say("b");
    time.advance(299_000);
    expect(client.calls).toHaveLength(1);
    time.advance(1_000 + 100);
    expect([client.calls[0]?.cancelled, client.calls.length]).toEqual([true, 2]);
  });

  it("opens again at the end of its life, at once", () => {
    const { watch, client, time, say, log } = make({
      limits: { initialMs: 3_000, idleMs: 1e9, lifetimeMs: 3_600_000 },
    });
    watch.start();
    say("a");
    time.advance(3_600_000);
    expect([client.calls[0]?.cancelled, client.open("m").length, watch.state]).toEqual([true, 1, "opening"]);
    expect(log).toEqual(["opened", "a", "opened"]);
  });

  it("has no limits where none are given", () => {
    const { watch, client, time } = make({ limits: undefined });
    watch.start();
    time.advance(1e8);
    expect([client.calls.length, client.last("m").cancelled]).toEqual([1, false]);
  });

  it("ignores what a stream says after its end", () => {
    const { watch, client, log, time } = make();
    watch.start();
    const old = client.last("m");
    old.error(14, "gone");
    time.advance(100);
    log.length = 0;
    old.send(Buffer.from("late"));
    old.end();
    old.error(3, "late");
    expect([log, watch.state]).toEqual([[], "opening"]);
  });

  it("waits for a connection, and tries when told", () => {
    const { watch, client, state, time, log } = make({ connected: false });
    watch.start();
    expect(log).toEqual(["interrupted no connection to the control plane"]);
    for (let i = 0; i < 10; i++) time.advance(4_000);
    state.connected = true;
    watch.retryNow();
    expect(client.calls).toHaveLength(1);
    watch.retryNow();
    expect(client.calls).toHaveLength(1);
  });

  it("survives a client that was closed", () => {
    const { watch, client, state, time } = make();
    state.broken = true;
    watch.start();
    state.broken = false;
    time.advance(100);
    expect(client.calls).toHaveLength(1);
  });

  it("stops without another word", () => {
    const { watch, client, time, log, say } = make();
    watch.start();
    say("a");
    watch.stop();
    client.last("m").end();
    time.advance(1e8);
    expect([log, client.calls.length, client.last("m").cancelled, time.armed]).toEqual([["opened", "a"], 1, true, 0]);
  });
});
