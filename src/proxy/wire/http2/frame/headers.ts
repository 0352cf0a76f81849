import type { ByteSink } from "../../../core/machine.ts";
import { connectionError, ErrorCode } from "../errors.ts";
import { splitIntoContinuations } from "./continuation.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType, writeFrameHeader } from "./header.ts";
import { PRIORITY_BYTES } from "./priority.ts";

/**
 * Room to reserve for a header block of at most `blockBytes`: every frame it may be split into costs a header.
 */
export function headersFrameBound(blockBytes: number, maxFrameBytes: number): number {
  if (blockBytes <= maxFrameBytes) return blockBytes + FRAME_HEADER_BYTES;
  return blockBytes + FRAME_HEADER_BYTES * (1 + Math.ceil(blockBytes / maxFrameBytes));
}

/**
 * Completes a HEADERS frame (RFC 9113 §6.2) whose block was written nine bytes behind `at`, in room reserved with
 * {@link headersFrameBound}; a block that exceeds the peer's frame size goes on in CONTINUATION frames.
 */
export function finishHeaders(
  sink: ByteSink,
  at: number,
  blockEnd: number,
  streamId: number,
  endStream: boolean,
  maxFrameBytes: number,
): void {
  const { buffer } = sink;
  const length = blockEnd - at - FRAME_HEADER_BYTES;
  const flags = endStream ? Flag.endStream : 0;
  if (length <= maxFrameBytes) {
    writeFrameHeader(buffer, at, length, FrameType.headers, flags | Flag.endHeaders, streamId);
    sink.commit(blockEnd);
    return;
  }
  writeFrameHeader(buffer, at, maxFrameBytes, FrameType.headers, flags, streamId);
  sink.commit(splitIntoContinuations(buffer, at + FRAME_HEADER_BYTES, length, streamId, maxFrameBytes));
}

/** Where the fragment of a HEADERS payload begins, behind pad length and priority. */
export function fragmentStart(start: number, flags: number): number {
  return start + (flags & Flag.padded ? 1 : 0) + (flags & Flag.priority ? PRIORITY_BYTES : 0);
}

/**
 * Where the fragment of a HEADERS payload ends, before the padding.
 * @throws ProtocolError if pad length or priority do not fit into the payload.
 */
export function fragmentEnd(payload: Buffer, start: number, end: number, flags: number): number {
  const fragment = fragmentStart(start, flags);
  if (fragment > end) throw connectionError(ErrorCode.frameSizeError, "RFC 9113 §6.2", "HEADERS frame too short");
  if (!(flags & Flag.padded)) return end;
  const to = end - (payload[start] as number);
  if (to < fragment) throw connectionError(ErrorCode.protocolError, "RFC 9113 §6.2", "padding exceeds HEADERS payload");
  return to;
}
