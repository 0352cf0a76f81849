import { describe, expect, test } from "vitest";
import { latin1, Relay } from "../../../../support/http1.ts";
import { readStrictly, type StrictRequest } from "../../../../support/strict-http1.ts";
import { readVectors, type Vector } from "../../../../support/vectors.ts";

interface Outcome {
  /** Complete requests the origin saw. */
  readonly forwarded: readonly StrictRequest[];
  readonly refused: boolean;
}

/** Sends pieces through a relay and judges what the origin saw, whatever was expected. */
function send(pieces: readonly Buffer[]): Outcome {
  const relay = new Relay();
  for (const piece of pieces) relay.receive(piece);
  // The client's half-close: what is still incomplete now never will be.
  relay.receive(Buffer.alloc(0));
  const forwarded: StrictRequest[] = [];
  for (const bytes of relay.upstream) {
    const { requests, cut } = readStrictly(bytes);
    expect(requests.length + (cut ? 1 : 0), "one request per connection").toBe(1);
    forwarded.push(...requests);
  }
  expect(forwarded.length, "as many requests as answers").toBe(relay.answered);
  for (const request of forwarded) expect(request.target).not.toContain("smuggled");
  expect(relay.error?.side).not.toBe("local");
  return { forwarded, refused: relay.error !== undefined };
}

function judge(vector: Vector, outcome: Outcome, before: number): void {
  const count = outcome.forwarded.length - before;
  switch (vector.expect) {
    case "R":
      expect({ count, refused: outcome.refused }).toEqual({ count: 0, refused: true });
      break;
    case "N":
      expect(count).toBe(outcome.refused ? 0 : 1);
      break;
    case "F1":
    case "F2":
      expect({ count, refused: outcome.refused }).toEqual({ count: Number(vector.expect[1]), refused: false });
      break;
    default:
      throw new Error(`unknown expectation ${vector.expect}`);
  }
}

/** Every offset of a short vector; of a long one those near its ends and some between. */
function offsets(length: number): number[] {
  const all = Array.from({ length: Math.max(0, length - 1) }, (_, i) => i + 1);
  return length <= 400 ? all : all.filter((at) => at < 120 || at > length - 40 || at % 9_973 === 0);
}

const FIRST = latin1("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
const vectors = readVectors("http1-requests.md");

test("the file is read", () => {
  expect(vectors.length).toBeGreaterThan(140);
  expect(vectors.find((vector) => vector.id === "K25")?.bytes.length).toBeGreaterThan(1400);
});

describe.each(vectors)("$id $expect", (vector) => {
  test("in one piece", () => judge(vector, send([vector.bytes]), 0));

  test("as second request on the connection", () => {
    judge(vector, send([FIRST, vector.bytes]), 1);
    judge(vector, send([Buffer.concat([FIRST, vector.bytes])]), 1);
  });

  test("split in two at every offset", () => {
    const whole = send([vector.bytes]);
    for (const at of offsets(vector.bytes.length)) {
      const outcome = send([vector.bytes.subarray(0, at), vector.bytes.subarray(at)]);
      expect(outcome, `split at ${at}`).toEqual(whole);
    }
  });

  test("byte by byte", () => {
    if (vector.bytes.length > 2000) return;
    expect(send(Array.from(vector.bytes, (byte) => Buffer.of(byte)))).toEqual(send([vector.bytes]));
  });
});

describe("what reaches the origin", () => {
  function only(id: string): StrictRequest {
    const vector = vectors.find((one) => one.id === id) as Vector;
    return send([vector.bytes]).forwarded[0] as StrictRequest;
  }
  const names = (request: StrictRequest) => request.fields.map(([name]) => name);

  test("P03: a field that Connection names stays behind", () => {
    expect(names(only("P03"))).toEqual(["host"]);
  });
  test("P08: of TE only trailers", () => {
    expect(only("P08").fields).toContainEqual(["te", "trailers"]);
    expect(names(only("P08"))).toEqual(["host", "te", "connection"]);
    expect(only("P08").fields).toContainEqual(["connection", "te"]);
  });
  test("P06: the expectation is the origin's to answer", () => {
    expect(only("P06").fields).toContainEqual(["expect", "100-continue"]);
  });
  test("P11: no way out of HTTP/1 by h2c", () => {
    expect(names(only("P11"))).toEqual(["host"]);
  });
  test("P12, P14: hop-by-hop fields stay behind, identity is not the client's to remove", () => {
    expect(names(only("P12"))).toEqual(["host"]);
    expect(names(only("P14"))).toEqual(["host", "l5d-client-id"]);
  });
  test("K14: framing and routing fields in trailers are dropped", () => {
    const vector = vectors.find((one) => one.id === "K14") as Vector;
    const relay = new Relay();
    relay.receive(vector.bytes);
    expect(relay.upstream[0]?.toString("latin1")).toContain("\r\n0\r\nX: y\r\n\r\n");
  });
  test("S34: content is content, whatever it looks like", () => {
    expect(only("S34").content).toBe("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
  });
  test("S38: a length goes on in its plain form", () => {
    expect(only("S38").fields).toContainEqual(["content-length", "5"]);
  });
  test("S41: a name that is nearly Transfer-Encoding is a name like any other", () => {
    expect(only("S41").content).toBe("hello");
  });
});
