/** Methods that every Buffer has and @types/node leaves out; `toString` and `write` reach them after a detour. */
interface Latin1Buffer {
  latin1Slice(start: number, end: number): string;
  latin1Write(text: string, at: number, length: number): number;
}

// Up to here a loop beats the call into the runtime.
const LOOP_BYTES = 24;

/** The octets as text, one char each. */
export function readLatin1(bytes: Buffer, start: number, end: number): string {
  return (bytes as unknown as Latin1Buffer).latin1Slice(start, end);
}

/**
 * Writes a text whose chars are octets.
 * @returns where the next byte goes.
 */
export function writeLatin1(buffer: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length > LOOP_BYTES) (buffer as unknown as Latin1Buffer).latin1Write(text, at, length);
  else for (let i = 0; i < length; i++) buffer[at + i] = text.charCodeAt(i);
  return at + length;
}
