import type { ByteSink } from "../../../core/machine.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType, writeFrameHeader } from "./header.ts";

// Below this a copy behind the frame header is cheaper than a buffer of its own in the sink.
const COPY_BYTES = 1024;

/**
 * Writes one DATA frame (RFC 9113 §6.1) with the bytes `start` to `end` of `view`, never padded. The caller has
 * checked windows and frame size.
 */
export function encodeData(
  sink: ByteSink,
  streamId: number,
  view: Buffer,
  start: number,
  end: number,
  endStream: boolean,
): void {
  const length = end - start;
  const copied = length <= COPY_BYTES ? length : 0;
  const at = sink.reserve(FRAME_HEADER_BYTES + copied);
  const { buffer } = sink;
  writeFrameHeader(buffer, at, length, FrameType.data, endStream ? Flag.endStream : 0, streamId);
  if (copied > 0) view.copy(buffer, at + FRAME_HEADER_BYTES, start, end);
  sink.commit(at + FRAME_HEADER_BYTES + copied);
  if (copied !== length) sink.append(start === 0 && end === view.length ? view : view.subarray(start, end));
}
