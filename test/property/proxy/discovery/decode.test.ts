import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { destination, inbound, outbound } from "../../../../src/proto/index.ts";
import { EndpointTable } from "../../../../src/proxy/discovery/endpoints.ts";
import { decodeInboundPolicy } from "../../../../src/proxy/discovery/inbound-policy.ts";
import { decodeOutboundPolicy } from "../../../../src/proxy/discovery/outbound-policy.ts";
import { combineOutbound } from "../../../../src/proxy/discovery/outbound-state.ts";
import { decodeProfile } from "../../../../src/proxy/discovery/profile.ts";

/** Something that may be a protobuf message: nested fields with small numbers, of every wire type. */
const { message } = fc.letrec<{ message: Buffer; field: Buffer }>((tie) => ({
  message: fc.array(tie("field"), { maxLength: 5 }).map((fields) => Buffer.concat(fields)),
  field: fc.oneof(
    { maxDepth: 7, depthSize: "medium" },
    fc
      .tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 0, max: 127 }))
      .map(([n, value]) => Buffer.from([n << 3, value])),
    fc
      .tuple(fc.integer({ min: 1, max: 8 }), fc.uint8Array({ minLength: 8, maxLength: 8 }))
      .map(([n, value]) => Buffer.from([(n << 3) | 1, ...value])),
    fc
      .tuple(fc.integer({ min: 1, max: 8 }), fc.uint8Array({ minLength: 4, maxLength: 4 }))
      .map(([n, value]) => Buffer.from([(n << 3) | 5, ...value])),
    fc
      .tuple(fc.integer({ min: 1, max: 8 }), fc.constantFrom("a.b:80", "/x", "(", "GET", "core", "x"))
      .map(([n, text]) => Buffer.from([(n << 3) | 2, text.length, ...Buffer.from(text)])),
    fc
      .tuple(fc.integer({ min: 1, max: 8 }), tie("message"))
      .filter(([, inner]) => inner.length < 128)
      .map(([n, inner]) => Buffer.from([(n << 3) | 2, inner.length, ...inner])),
  ),
}));

/** Runs `use` with whatever of the bytes can be read as a message. */
function ifReadable<T>(read: () => T, use: (value: T) => void): void {
  let value: T;
  try {
    value = read();
  } catch {
    return;
  }
  use(value);
}

describe("messages that nobody would send", () => {
  it("never throw: they are invalid policies, or plain data", () => {
    fc.assert(
      fc.property(message, (bytes) => {
        ifReadable(
          () => fromBinary(inbound.ServerSchema, bytes),
          (read) => structuredClone(decodeInboundPolicy(read).policy),
        );
        ifReadable(
          () => fromBinary(outbound.OutboundPolicySchema, bytes),
          (read) => {
            const { policy } = decodeOutboundPolicy(read);
            structuredClone(combineOutbound("10.0.0.1", 80, policy, undefined));
          },
        );
        ifReadable(
          () => fromBinary(destination.DestinationProfileSchema, bytes),
          (read) => structuredClone(combineOutbound("10.0.0.1", 80, undefined, decodeProfile(read))),
        );
      }),
      { numRuns: 500 },
    );
  });

  it("leave an endpoint table consistent with the changes that it reports", () => {
    fc.assert(
      fc.property(fc.array(fc.option(message), { maxLength: 8 }), (steps) => {
        const table = new EndpointTable();
        const mirror = new Map<string, unknown>();
        for (const bytes of steps) {
          if (bytes === null) {
            table.reconnected();
            continue;
          }
          ifReadable(
            () => fromBinary(destination.UpdateSchema, bytes),
            (read) => {
              const change = table.apply(read);
              for (const key of change?.remove ?? []) mirror.delete(key);
              for (const endpoint of change?.add ?? []) mirror.set(endpoint.key, endpoint);
            },
          );
        }
        expect([...mirror].toSorted()).toEqual([...table.endpoints].toSorted());
      }),
    );
  });
});
