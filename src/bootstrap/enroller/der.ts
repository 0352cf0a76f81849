/** One element of DER. */
export interface DerElement {
  readonly tag: number;
  readonly content: Buffer;
}

/** Splits DER into the elements that stand behind each other (X.690 §8.1). @throws Error on anything that does not end where it says. */
export function derElements(der: Buffer): readonly DerElement[] {
  const found: DerElement[] = [];
  for (let at = 0; at < der.length; ) {
    const tag = der[at] as number;
    const form = der[at + 1] ?? 0x80;
    const octets = form < 0x80 ? 0 : form & 0x7f;
    if ((form >= 0x80 && octets === 0) || octets > 3 || at + 2 + octets > der.length) throw new Error("not DER");
    const length = octets === 0 ? form : der.readUIntBE(at + 2, octets);
    const start = at + 2 + octets;
    if (start + length > der.length) throw new Error("not DER");
    found.push({ tag, content: der.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}
