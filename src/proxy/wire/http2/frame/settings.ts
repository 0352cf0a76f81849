import type { ByteSink } from "../../../core/machine.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType, readUint32, writeFrameHeader, writeUint32 } from "./header.ts";

/** RFC 9113 §6.5.1: identifier and value. */
export const SETTING_BYTES = 6;

/** Writes SETTINGS (RFC 9113 §6.5). */
export function encodeSettings(sink: ByteSink, settings: readonly (readonly [id: number, value: number])[]): void {
  const length = settings.length * SETTING_BYTES;
  let at = sink.reserve(FRAME_HEADER_BYTES + length);
  const { buffer } = sink;
  writeFrameHeader(buffer, at, length, FrameType.settings, 0, 0);
  at += FRAME_HEADER_BYTES;
  for (const [id, value] of settings) {
    buffer[at] = id >>> 8;
    buffer[at + 1] = id;
    writeUint32(buffer, at + 2, value);
    at += SETTING_BYTES;
  }
  sink.commit(at);
}

export function encodeSettingsAck(sink: ByteSink): void {
  const at = sink.reserve(FRAME_HEADER_BYTES);
  writeFrameHeader(sink.buffer, at, 0, FrameType.settings, Flag.ack, 0);
  sink.commit(at + FRAME_HEADER_BYTES);
}

/** The identifier of the setting at `at`. */
export function decodeSettingId(payload: Buffer, at: number): number {
  return ((payload[at] as number) << 8) | (payload[at + 1] as number);
}

/** The value of the setting at `at`. */
export function decodeSettingValue(payload: Buffer, at: number): number {
  return readUint32(payload, at + 2);
}
