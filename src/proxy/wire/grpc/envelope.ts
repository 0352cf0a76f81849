import type { Decoded } from "../../core/machine.ts";

/** A flag byte and a big-endian length before every message. */
export const ENVELOPE_PREFIX_BYTES = 5;

/** What a prefix says about the message behind it. */
export interface Envelope {
  readonly compressed: boolean;
  /** Bytes of the message, up to 2^32 - 1. */
  readonly length: number;
}

/**
 * Reads one prefix; the message itself may still be on its way.
 * @returns `no` for flags that gRPC does not define. `consumed` is the prefix alone.
 * @see gRPC over HTTP/2, "Length-Prefixed-Message"
 */
export function decodeEnvelope(bytes: Buffer): Decoded<Envelope> {
  const flags = bytes[0];
  if (flags !== undefined && flags > 1) return { kind: "no", why: "unknown flags before a gRPC message" };
  if (bytes.length < ENVELOPE_PREFIX_BYTES) return { kind: "more", atLeast: ENVELOPE_PREFIX_BYTES };
  return {
    kind: "done",
    value: { compressed: flags === 1, length: bytes.readUInt32BE(1) },
    consumed: ENVELOPE_PREFIX_BYTES,
  };
}

/** A message with its prefix, in one buffer. */
export function encodeEnvelope(message: Buffer, compressed = false): Buffer {
  const bytes = Buffer.allocUnsafe(ENVELOPE_PREFIX_BYTES + message.length);
  bytes[0] = compressed ? 1 : 0;
  bytes.writeUInt32BE(message.length, 1);
  message.copy(bytes, ENVELOPE_PREFIX_BYTES);
  return bytes;
}

/** Counts the messages of a stream as its content passes by, split anywhere. Nothing is kept but numbers. */
export class EnvelopeReader {
  /** Messages whose last byte has passed. */
  messages = 0;
  /** Bytes of those messages and of the one under way, without prefixes. */
  messageBytes = 0;
  #prefixBytes = 0;
  #length = 0;
  #left = 0;
  #broken = false;

  /** Flags that gRPC does not define were seen: this is something else, and counting has stopped. */
  get isBroken(): boolean {
    return this.#broken;
  }

  /** No message is cut: the stream may end here. */
  get isAtBoundary(): boolean {
    return this.#prefixBytes === 0;
  }

  receive(view: Buffer): void {
    let at = 0;
    while (at < view.length && !this.#broken) {
      if (this.#prefixBytes < ENVELOPE_PREFIX_BYTES) this.#readPrefix(view[at++] as number);
      else {
        const taken = Math.min(this.#left, view.length - at);
        at += taken;
        this.#left -= taken;
        this.messageBytes += taken;
      }
      if (this.#prefixBytes === ENVELOPE_PREFIX_BYTES && this.#left === 0) {
        this.messages++;
        this.#prefixBytes = 0;
      }
    }
  }

  #readPrefix(byte: number): void {
    if (this.#prefixBytes === 0) {
      this.#broken = byte > 1;
      this.#length = 0;
      if (this.#broken) return;
    } else this.#length = this.#length * 256 + byte;
    this.#prefixBytes++;
    if (this.#prefixBytes === ENVELOPE_PREFIX_BYTES) this.#left = this.#length;
  }
}
