import type { ByteSink } from "../../../core/machine.ts";
import { FRAME_HEADER_BYTES, FrameType, readUint31, writeFrameHeader, writeUint32 } from "./header.ts";

export const WINDOW_UPDATE_BYTES = 4;

/** Writes WINDOW_UPDATE (RFC 9113 §6.9); stream 0 is the connection. */
export function encodeWindowUpdate(sink: ByteSink, streamId: number, increment: number): void {
  const at = sink.reserve(FRAME_HEADER_BYTES + WINDOW_UPDATE_BYTES);
  writeFrameHeader(sink.buffer, at, WINDOW_UPDATE_BYTES, FrameType.windowUpdate, 0, streamId);
  writeUint32(sink.buffer, at + FRAME_HEADER_BYTES, increment);
  sink.commit(at + FRAME_HEADER_BYTES + WINDOW_UPDATE_BYTES);
}

/** The increment in a WINDOW_UPDATE payload; 0 is the peer's error. */
export function decodeWindowUpdate(payload: Buffer, at: number): number {
  return readUint31(payload, at);
}
