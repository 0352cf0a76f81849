// Node's Buffer has these, its types do not: no look-up of an encoding's name, no slice. Bytes and chars are one to one.
interface Latin1Buffer {
  latin1Slice(from: number, to: number): string;
  latin1Write(text: string, at: number, length: number): number;
}

/** The bytes [from, to) as text. */
export function latin1Slice(bytes: Buffer, from: number, to: number): string {
  return (bytes as unknown as Latin1Buffer).latin1Slice(from, to);
}

/** Writes text at an offset where there is room for it. @returns The offset behind it. */
export function latin1Write(bytes: Buffer, text: string, at: number): number {
  return at + (bytes as unknown as Latin1Buffer).latin1Write(text, at, text.length);
}
