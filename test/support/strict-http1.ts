/** A request as the strictest reader sees it. */
export interface StrictRequest {
  readonly method: string;
  readonly target: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly content: string;
}

const START = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP\/1\.[01]$/;
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?|)[ \t]*$/;
const SIZE = /^[0-9a-fA-F]{1,15}$/;

/**
 * Reads requests by RFC 9112's grammar, without any of the tolerance it allows: written apart from the code under test,
 * so that both cannot share a mistake.
 * @returns The complete requests; `cut` if the bytes end inside one.
 * @throws Error for whatever is not in the grammar.
 */
export function readStrictly(bytes: Buffer): { requests: StrictRequest[]; cut: boolean } {
  const text = bytes.toString("latin1");
  const requests: StrictRequest[] = [];
  let at = 0;
  while (at < text.length) {
    const end = text.indexOf("\r\n\r\n", at);
    if (end < 0) return { requests, cut: true };
    const [start, ...lines] = text.slice(at, end).split("\r\n") as [string, ...string[]];
    const line = START.exec(start);
    if (line === null) throw new Error(`request line: ${JSON.stringify(start)}`);
    const fields = lines.map((field) => {
      const match = FIELD.exec(field);
      if (match === null) throw new Error(`field line: ${JSON.stringify(field)}`);
      return [(match[1] as string).toLowerCase(), match[2] as string] as const;
    });
    const all = (name: string) => fields.filter(([other]) => other === name).map(([, value]) => value);
    const lengths = all("content-length");
    const codings = all("transfer-encoding");
    if (all("host").length > 1) throw new Error("two Host fields");
    if (lengths.length + codings.length > 1) throw new Error("more than one length");
    at = end + 4;
    let content = "";
    if (codings.length === 1) {
      if (codings[0] !== "chunked") throw new Error("transfer coding");
      const body = readChunked(text, at);
      if (body === undefined) return { requests, cut: true };
      content = body.content;
      at = body.end;
    } else if (lengths.length === 1) {
      if (!/^(?:0|[1-9][0-9]*)$/.test(lengths[0] as string)) throw new Error("content-length");
      const length = Number(lengths[0]);
      if (text.length - at < length) return { requests, cut: true };
      content = text.slice(at, at + length);
      at += length;
    }
    requests.push({ method: line[1] as string, target: line[2] as string, fields, content });
  }
  return { requests, cut: false };
}

function readChunked(text: string, from: number): { content: string; end: number } | undefined {
  let at = from;
  let content = "";
  for (;;) {
    const end = text.indexOf("\r\n", at);
    if (end < 0) return undefined;
    const size = text.slice(at, end);
    if (!SIZE.test(size)) throw new Error(`chunk size: ${JSON.stringify(size)}`);
    const length = Number.parseInt(size, 16);
    at = end + 2;
    if (length === 0) break;
    if (text.length < at + length + 2) return undefined;
    if (text.slice(at + length, at + length + 2) !== "\r\n") throw new Error("end of a chunk");
    content += text.slice(at, at + length);
    at += length + 2;
  }
  for (;;) {
    const end = text.indexOf("\r\n", at);
    if (end < 0) return undefined;
    if (end === at) return { content, end: end + 2 };
    if (!FIELD.test(text.slice(at, end))) throw new Error("trailer line");
    at = end + 2;
  }
}
