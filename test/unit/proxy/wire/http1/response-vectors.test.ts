import { describe, expect, test } from "vitest";
import { ClientRecorder, requestHead } from "../../../../support/http1.ts";
import { readVectors } from "../../../../support/vectors.ts";

function send(pieces: readonly Buffer[]): { events: string[]; free: boolean } {
  const client = new ClientRecorder();
  client.machine.sendHead(requestHead(), true);
  for (const piece of pieces) client.machine.receive(piece, 0);
  const free = client.machine.reusable;
  client.machine.receive(Buffer.alloc(0), 0);
  return { events: client.take(), free };
}

function isEnd(event: string): boolean {
  return event.startsWith("response-end") || (event.startsWith("response ") && event.endsWith("|"));
}

/** Splits may decide which comes first: a response's end, or that bytes follow it. What was complete stays complete. */
function without(events: readonly string[], stray: boolean): readonly string[] {
  return stray ? events.filter((event) => event !== "error remote 502" && event !== "end") : events;
}

describe.each(readVectors("http1-responses.md"))("$id $expect", ({ expect: wanted, bytes }) => {
  const whole = send([bytes]);

  test("in one piece", () => {
    const ends = whole.events.filter(isEnd).length;
    switch (wanted) {
      case "R":
        expect(ends).toBe(0);
        expect(whole.events.at(-1)).toBe("error remote 502");
        expect(whole.free).toBe(false);
        break;
      case "F":
        expect(ends).toBe(1);
        expect(whole.free).toBe(true);
        expect(whole.events.at(-1)).toBe("end");
        break;
      case "C":
        expect(ends).toBe(1);
        expect(whole.free).toBe(false);
        break;
      default:
        throw new Error(`unknown expectation ${wanted}`);
    }
  });

  test("split in two at every offset", () => {
    for (let at = 1; at < bytes.length; at += bytes.length > 5000 ? 997 : 1) {
      const split = send([bytes.subarray(0, at), bytes.subarray(at)]);
      expect(without(split.events, wanted === "C"), `split at ${at}`).toEqual(without(whole.events, wanted === "C"));
      expect(split.free).toBe(whole.free);
    }
  });
});
