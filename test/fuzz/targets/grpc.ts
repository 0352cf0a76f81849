import {
  decodeEnvelope,
  decodeGrpcMessage,
  EnvelopeReader,
  encodeEnvelope,
  encodeGrpcMessage,
  formatGrpcTimeout,
  parseGrpcStatus,
  parseGrpcTimeout,
} from "../../../src/proxy/wire/grpc/index.ts";
import type { FuzzTarget } from "../harness.ts";

const COVERS = "src/proxy/wire/grpc/";

/** Walks over messages by their prefixes, as the counting reader has to come to the same result. */
function countMessages(bytes: Buffer): { messages: number; broken: boolean } {
  let messages = 0;
  for (let at = 0; at < bytes.length; messages++) {
    const decoded = decodeEnvelope(bytes.subarray(at));
    if (decoded.kind === "no") return { messages, broken: true };
    if (decoded.kind === "more") break;
    at += decoded.consumed + decoded.value.length;
    if (at > bytes.length) break;
  }
  return { messages, broken: false };
}

const envelope: FuzzTarget = {
  name: "grpc-envelope",
  seeds: [
    encodeEnvelope(Buffer.from("hello")),
    Buffer.concat([encodeEnvelope(Buffer.alloc(0)), encodeEnvelope(Buffer.alloc(300), true)]),
    Buffer.of(0, 0xff, 0xff, 0xff, 0xff, 1),
  ],
  dictionary: [Buffer.of(0, 0, 0, 0, 0), Buffer.of(1, 0, 0, 0, 1, 0), Buffer.of(2)],
  covers: COVERS,
  run(pieces) {
    const reader = new EnvelopeReader();
    for (const piece of pieces) reader.receive(piece);
    const { messages, broken } = countMessages(Buffer.concat(pieces));
    if (reader.messages !== messages || reader.isBroken !== broken) {
      throw new Error(`${reader.messages} messages were counted, ${messages} are there`);
    }
    return reader;
  },
};

const metadata: FuzzTarget = {
  name: "grpc-metadata",
  seeds: ["10S", "99999999n", "1H", "16", "0", "not found%3A %C3%A4", "%", "%4", "%zz%41"].map((text) =>
    Buffer.from(text),
  ),
  dictionary: ["m", "u", "%25", "%E2%82%AC", "00000000"].map((text) => Buffer.from(text)),
  covers: COVERS,
  run(pieces) {
    const text = Buffer.concat(pieces).toString("latin1");
    const ms = parseGrpcTimeout(text);
    if (ms !== undefined) {
      const said = parseGrpcTimeout(formatGrpcTimeout(ms));
      // Said in the finest unit that holds it: never later, and early by less than one in ten million.
      if (said === undefined || said > ms * (1 + 1e-9) || said < ms * (1 - 1e-6) - 1e-6)
        throw new Error(`${ms} became ${said}`);
    }
    const status = parseGrpcStatus(text);
    if (status !== undefined && !(Number.isInteger(status) && status >= 0 && status <= 16))
      throw new Error(`status ${status}`);
    const message = decodeGrpcMessage(text);
    const encoded = encodeGrpcMessage(message);
    if (!/^[ -~]*$/.test(encoded)) throw new Error("a message that is no field value");
    if (decodeGrpcMessage(encoded) !== message) throw new Error("another message came out");
    return undefined;
  },
};

export const GRPC_TARGETS: readonly FuzzTarget[] = [envelope, metadata];
