import type { ByteSink } from "../../../core/machine.ts";
import { FRAME_HEADER_BYTES, FrameType, readUint32, writeFrameHeader, writeUint32 } from "./header.ts";

export const RST_STREAM_BYTES = 4;

/** Writes RST_STREAM (RFC 9113 §6.4). */
export function encodeRstStream(sink: ByteSink, streamId: number, code: number): void {
  const at = sink.reserve(FRAME_HEADER_BYTES + RST_STREAM_BYTES);
  writeFrameHeader(sink.buffer, at, RST_STREAM_BYTES, FrameType.rstStream, 0, streamId);
  writeUint32(sink.buffer, at + FRAME_HEADER_BYTES, code);
  sink.commit(at + FRAME_HEADER_BYTES + RST_STREAM_BYTES);
}

/** The error code of an RST_STREAM payload of {@link RST_STREAM_BYTES}. */
export function decodeRstStream(payload: Buffer, at: number): number {
  return readUint32(payload, at);
}
