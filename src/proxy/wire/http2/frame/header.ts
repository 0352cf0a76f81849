/** RFC 9113 §4.1. */
export const FRAME_HEADER_BYTES = 9;

/** RFC 9113 §6. PUSH_PROMISE is known only to be refused: we disable push as a client and never push as a server. */
export const FrameType = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  rstStream: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goaway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const;

export const Flag = {
  /** SETTINGS, PING. */
  ack: 0x1,
  /** DATA, HEADERS. */
  endStream: 0x1,
  /** HEADERS, CONTINUATION. */
  endHeaders: 0x4,
  /** DATA, HEADERS. */
  padded: 0x8,
  /** HEADERS. */
  priority: 0x20,
} as const;

/** Writes the nine bytes of RFC 9113 §4.1 at `at`. */
export function writeFrameHeader(
  buffer: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  buffer[at] = length >>> 16;
  buffer[at + 1] = length >>> 8;
  buffer[at + 2] = length;
  buffer[at + 3] = type;
  buffer[at + 4] = flags;
  writeUint32(buffer, at + 5, streamId);
}

export function writeUint32(buffer: Buffer, at: number, value: number): void {
  buffer[at] = value >>> 24;
  buffer[at + 1] = value >>> 16;
  buffer[at + 2] = value >>> 8;
  buffer[at + 3] = value;
}

export function readUint32(bytes: Buffer, at: number): number {
  return (readUint31(bytes, at) | ((bytes[at] as number) & 0x80 ? 0x8000_0000 : 0)) >>> 0;
}

/** Reads four bytes without the highest bit, which is reserved wherever a stream identifier or an increment stands. */
export function readUint31(bytes: Buffer, at: number): number {
  return (
    (((bytes[at] as number) & 0x7f) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}
