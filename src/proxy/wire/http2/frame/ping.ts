import type { ByteSink } from "../../../core/machine.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType, readUint32, writeFrameHeader, writeUint32 } from "./header.ts";

export const PING_BYTES = 8;

/** Writes a PING of ours (RFC 9113 §6.7): `kind` says what it was sent for and comes back in the answer. */
export function encodePing(sink: ByteSink, kind: number, sequence: number): void {
  const at = sink.reserve(FRAME_HEADER_BYTES + PING_BYTES);
  writeFrameHeader(sink.buffer, at, PING_BYTES, FrameType.ping, 0, 0);
  writeUint32(sink.buffer, at + FRAME_HEADER_BYTES, kind);
  writeUint32(sink.buffer, at + FRAME_HEADER_BYTES + 4, sequence);
  sink.commit(at + FRAME_HEADER_BYTES + PING_BYTES);
}

/** Answers the PING whose payload stands at `from`. */
export function encodePingAck(sink: ByteSink, payload: Buffer, from: number): void {
  const at = sink.reserve(FRAME_HEADER_BYTES + PING_BYTES);
  const { buffer } = sink;
  writeFrameHeader(buffer, at, PING_BYTES, FrameType.ping, Flag.ack, 0);
  for (let i = 0; i < PING_BYTES; i++) buffer[at + FRAME_HEADER_BYTES + i] = payload[from + i] as number;
  sink.commit(at + FRAME_HEADER_BYTES + PING_BYTES);
}

/** The `kind` of {@link encodePing} in an answer; anything if the peer made it up. */
export function decodePingKind(payload: Buffer, at: number): number {
  return readUint32(payload, at);
}

export function decodePingSequence(payload: Buffer, at: number): number {
  return readUint32(payload, at + 4);
}
