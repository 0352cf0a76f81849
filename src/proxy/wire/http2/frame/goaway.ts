import type { ByteSink } from "../../../core/machine.ts";
import { FRAME_HEADER_BYTES, FrameType, readUint31, readUint32, writeFrameHeader, writeUint32 } from "./header.ts";

/** RFC 9113 §6.8: without the debug data that may follow. */
export const GOAWAY_BYTES = 8;

/** Writes GOAWAY; `debug` is for the operator who reads the peer's log, ASCII. */
export function encodeGoaway(sink: ByteSink, lastStreamId: number, code: number, debug: string): void {
  const length = GOAWAY_BYTES + debug.length;
  const at = sink.reserve(FRAME_HEADER_BYTES + length);
  const { buffer } = sink;
  writeFrameHeader(buffer, at, length, FrameType.goaway, 0, 0);
  writeUint32(buffer, at + FRAME_HEADER_BYTES, lastStreamId);
  writeUint32(buffer, at + FRAME_HEADER_BYTES + 4, code);
  buffer.write(debug, at + FRAME_HEADER_BYTES + GOAWAY_BYTES, "latin1");
  sink.commit(at + FRAME_HEADER_BYTES + length);
}

export function decodeGoawayLastStreamId(payload: Buffer, at: number): number {
  return readUint31(payload, at);
}

export function decodeGoawayCode(payload: Buffer, at: number): number {
  return readUint32(payload, at + 4);
}
