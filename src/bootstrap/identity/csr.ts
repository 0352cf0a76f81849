import { type KeyObject, sign } from "node:crypto";
import { publicKeyDer } from "./key.ts";

const INTEGER_ZERO = Buffer.of(0x02, 0x01, 0x00);
const EMPTY_SEQUENCE = Buffer.of(0x30, 0x00);
// [0] IMPLICIT SET OF Attribute, none.
const NO_ATTRIBUTES = Buffer.of(0xa0, 0x00);
// SEQUENCE { OBJECT IDENTIFIER ecdsa-with-SHA256 } (RFC 5758 §3.2)
const ECDSA_SHA256 = Buffer.from("300a06082a8648ce3d040302", "hex");

/**
 * A certification request (RFC 2986 §4) that carries nothing but the public key and the proof of its private half: the
 * enroller chooses every name, so there is none to ask for.
 * @returns DER.
 */
export function certificationRequest(key: KeyObject): Buffer {
  const info = sequence(INTEGER_ZERO, EMPTY_SEQUENCE, publicKeyDer(key), NO_ATTRIBUTES);
  const signature = sign("sha256", info, key);
  // The leading zero counts unused bits.
  return sequence(info, ECDSA_SHA256, tagged(0x03, Buffer.concat([Buffer.of(0), signature])));
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

/** X.690 §8.1.3: definite form, shortest length. */
function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head =
    length < 0x80
      ? Buffer.of(tag, length)
      : length < 0x100
        ? Buffer.of(tag, 0x81, length)
        : Buffer.of(tag, 0x82, length >>> 8, length & 0xff);
  return Buffer.concat([head, content]);
}
