import { readFileSync } from "node:fs";

/** One line of a vector file. */
export interface Vector {
  readonly id: string;
  readonly expect: string;
  readonly bytes: Buffer;
}

/**
 * Reads the fenced blocks of a vector file: `id expectation bytes`, the bytes to the end of the line with escapes
 * `\r \n \t \\ \xHH` and macros: `{H}` is a Host line, `{SM}` a whole request to `/smuggled`, `{x*N}` N times x, `{x#N}`
 * N times x with `#` replaced by a count.
 */
export function readVectors(name: string): Vector[] {
  const text = readFileSync(new URL(`../vectors/${name}`, import.meta.url), "utf8");
  const vectors: Vector[] = [];
  for (const block of text.matchAll(/^```text\n(.*?)^```$/gms)) {
    for (const line of (block[1] as string).split("\n")) {
      const match = /^(\S+) +(\S+) +(.*)$/.exec(line);
      if (match === null) continue;
      const [, id, expect, bytes] = match as unknown as [string, string, string, string];
      vectors.push({ id, expect, bytes: Buffer.from(plain(macros(bytes)), "latin1") });
    }
  }
  return vectors;
}

function macros(text: string): string {
  return text
    .replaceAll("{H}", "Host: a\\r\\n")
    .replaceAll("{SM}", "GET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    .replace(/\{([^{}]*)\*(\d+)\}/g, (_, what: string, times: string) => what.repeat(Number(times)))
    .replace(/\{([^{}]*#[^{}]*)#(\d+)\}/g, (_, what: string, times: string) =>
      Array.from({ length: Number(times) }, (_unused, i) => what.replace("#", String(i))).join(""),
    );
}

const ESCAPES: Readonly<Record<string, string>> = { r: "\r", n: "\n", t: "\t", "\\": "\\" };

function plain(text: string): string {
  return text.replace(/\\(?:x([0-9a-fA-F]{2})|([rnt\\]))/g, (_, hex: string | undefined, letter: string) =>
    hex === undefined ? (ESCAPES[letter] as string) : String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
