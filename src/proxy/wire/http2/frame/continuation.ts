import { Flag, FRAME_HEADER_BYTES, FrameType, writeFrameHeader } from "./header.ts";

/**
 * Spreads a header block of `length` bytes at `start` over frames: its first `maxFrameBytes` stay where they are, as
 * the payload of the HEADERS frame before them, the rest moves back by one frame header per CONTINUATION
 * (RFC 9113 §6.10).
 *
 * @returns where the last frame ends.
 */
export function splitIntoContinuations(
  buffer: Buffer,
  start: number,
  length: number,
  streamId: number,
  maxFrameBytes: number,
): number {
  const continuations = Math.ceil(length / maxFrameBytes) - 1;
  // From the last to the first, since every piece moves towards the end, over the piece behind it.
  for (let i = continuations; i >= 1; i--) {
    const from = start + i * maxFrameBytes;
    const size = Math.min(maxFrameBytes, start + length - from);
    const to = from + i * FRAME_HEADER_BYTES;
    buffer.copyWithin(to, from, from + size);
    const flags = i === continuations ? Flag.endHeaders : 0;
    writeFrameHeader(buffer, to - FRAME_HEADER_BYTES, size, FrameType.continuation, flags, streamId);
  }
  return start + length + continuations * FRAME_HEADER_BYTES;
}
