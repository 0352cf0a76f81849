import { describe, expect, it } from "vitest";
import { END_HEADERS, type Fields, frame, openServer, rawFrame } from "../../../../support/http2.ts";
import {
  asGrpc,
  type Encode,
  encodings,
  headerFrames,
  indexing,
  literals,
  type MalformedMessage,
  malformedRequests,
  references,
  requestFrames,
} from "../../../../support/malformed-http2.ts";

/** What a request gave: whether all of it was reported, in the end. */
function run(vector: MalformedMessage, fields: Fields, encode: Encode, side = openServer(), streamId = 1): boolean {
  side.receive(...requestFrames(vector, streamId, encode, fields));
  const { events } = side.recorder;
  const refused = side.frames().some((line) => line.startsWith(`RST_STREAM ${streamId} `) || line.startsWith("GOAWAY"));
  const complete = events.some((event) => /^(request .* end$|data-end|trailers)/.test(event));
  expect(refused).toBe(!complete);
  if (refused) {
    // Nothing beyond a head that was fine by itself, and no octet beyond content-length, was reported.
    expect(side.recorder.content(streamId).toString("latin1")).not.toContain("smuggled");
    expect(events.some((event) => event.includes("\r") || event.includes("\n"))).toBe(false);
  }
  return complete;
}

describe.each(malformedRequests)("$id ($expected)", (vector) => {
  const check = (complete: boolean) => {
    if (vector.expected === "R") expect(complete).toBe(false);
    if (vector.expected === "F") expect(complete).toBe(true);
  };

  it.each(encodings)("%s", (_name, encode) => check(run(vector, vector.fields, encode)));

  it.each(encodings)("with gRPC's fields, %s", (_name, encode) => {
    check(run(vector, asGrpc(vector), encode));
  });

  it("as a reference to entries that an earlier request made", () => {
    const side = openServer();
    side.receive(rawFrame(1, END_HEADERS, 1, indexing(vector.fields)), frame.reset(1, 8));
    side.frames();
    side.recorder.take();
    check(
      run(
        vector,
        vector.fields,
        (fields) => {
          if (fields !== vector.fields) return [literals(fields, 0x00, false)];
          return [references(fields)];
        },
        side,
        3,
      ),
    );
  });

  it("split at every offset", () => {
    const bytes = Buffer.concat(
      headerFrames(1, [literals(vector.fields, 0, false)], vector.body === "" && vector.trailers === undefined),
    );
    if (vector.body !== "" || vector.trailers !== undefined) return;
    for (let at = 1; at < bytes.length; at++) {
      const side = openServer().receive(bytes.subarray(0, at)).receive(bytes.subarray(at));
      check(side.recorder.events.length > 0);
    }
  });
});

it("all vectors were read", () => expect(malformedRequests.length).toBe(97));
