/** How one response looked to a strict client. */
export interface StrictResponse {
  readonly status: number;
  readonly content: string;
  /** Ended by its length or its last chunk; `close` if only the connection's end could tell; else it was cut. */
  readonly end: "framed" | "close" | "cut";
  /** Bytes that it took, the interim responses before it included. */
  readonly bytes: number;
}

const START = /^HTTP\/1\.[01] (\d{3}) [\t -~\x80-\xff]*$/;
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?|)[ \t]*$/;

/**
 * Reads the answer to a GET by RFC 9112's grammar, without any of the tolerance it allows.
 * @returns undefined if not even a head is whole.
 * @throws Error for whatever is not in the grammar.
 */
export function readResponse(text: string): StrictResponse | undefined {
  let from = 0;
  for (;;) {
    const end = text.indexOf("\r\n\r\n", from);
    if (end < 0) return undefined;
    const [start, ...lines] = text.slice(from, end).split("\r\n") as [string, ...string[]];
    const line = START.exec(start);
    if (line === null) throw new Error(`status line: ${JSON.stringify(start)}`);
    const fields = lines.map((field) => {
      const match = FIELD.exec(field);
      if (match === null) throw new Error(`field line: ${JSON.stringify(field)}`);
      return [(match[1] as string).toLowerCase(), match[2] as string] as const;
    });
    const status = Number(line[1]);
    from = end + 4;
    if (status < 200) continue;
    const all = (name: string) => fields.filter(([other]) => other === name).map(([, value]) => value);
    const lengths = all("content-length");
    const codings = all("transfer-encoding");
    if (lengths.length + codings.length > 1) throw new Error("more than one length");
    if (status === 204 || status === 304) return { status, content: "", end: "framed", bytes: from };
    if (codings.length === 1) {
      if (codings[0] !== "chunked") throw new Error("transfer coding");
      return { status, ...readChunked(text, from) };
    }
    if (lengths.length === 0) return { status, content: text.slice(from), end: "close", bytes: text.length };
    if (!/^(?:0|[1-9][0-9]*)$/.test(lengths[0] as string)) throw new Error("content-length");
    const to = from + Number(lengths[0]);
    const isWhole = to <= text.length;
    return {
      status,
      content: text.slice(from, to),
      end: isWhole ? "framed" : "cut",
      bytes: Math.min(to, text.length),
    };
  }
}

function readChunked(text: string, from: number): Omit<StrictResponse, "status"> {
  const cut = (content: string) => ({ content, end: "cut" as const, bytes: text.length });
  let at = from;
  let content = "";
  for (;;) {
    const end = text.indexOf("\r\n", at);
    if (end < 0) return cut(content);
    const size = text.slice(at, end);
    if (!/^[0-9a-fA-F]{1,15}$/.test(size)) throw new Error(`chunk size: ${JSON.stringify(size)}`);
    const length = Number.parseInt(size, 16);
    at = end + 2;
    if (length === 0) break;
    if (text.length < at + length + 2) return cut(content + text.slice(at, at + length));
    if (text.slice(at + length, at + length + 2) !== "\r\n") throw new Error("end of a chunk");
    content += text.slice(at, at + length);
    at += length + 2;
  }
  for (;;) {
    const end = text.indexOf("\r\n", at);
    if (end < 0) return cut(content);
    if (end === at) return { content, end: "framed", bytes: end + 2 };
    if (!FIELD.test(text.slice(at, end))) throw new Error("trailer line");
    at = end + 2;
  }
}
