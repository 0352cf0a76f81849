import { authorityHost } from "../../core/authority.ts";
import type { HeaderList } from "../../core/header.ts";
import type { RequestHead } from "../../core/http.ts";

/**
 * A request as matchers see it. One object is loaded again for each request, and what is costly is worked out only
 * when a matcher asks.
 */
export class RequestView {
  method = "";
  /** Without the query. Not decoded. */
  path = "";
  headers: HeaderList;
  #target = "";
  #queryStart = -1;
  #authority: string | undefined;
  #host: string | undefined;
  #hostKnown = false;
  #pairs: readonly string[] | undefined;

  constructor(headers: HeaderList) {
    this.headers = headers;
  }

  load(head: RequestHead): this {
    const mark = head.path.indexOf("?");
    this.method = head.method;
    this.path = mark < 0 ? head.path : head.path.slice(0, mark);
    this.headers = head.headers;
    this.#target = head.path;
    this.#queryStart = mark + 1;
    this.#authority = head.authority;
    this.#hostKnown = false;
    this.#pairs = undefined;
    return this;
  }

  /** In lower case, without port; undefined where the request names none. */
  get host(): string | undefined {
    if (!this.#hostKnown) {
      this.#host = this.#authority === undefined ? undefined : authorityHost(this.#authority).toLowerCase();
      this.#hostKnown = true;
    }
    return this.#host;
  }

  /** The query as decoded `application/x-www-form-urlencoded` pairs: name, value, name, value … */
  get query(): readonly string[] {
    this.#pairs ??= this.#queryStart === 0 ? [] : parseQuery(this.#target.slice(this.#queryStart));
    return this.#pairs;
  }
}

function parseQuery(text: string): string[] {
  const pairs: string[] = [];
  for (const piece of text.split("&")) {
    if (piece === "") continue;
    const equals = piece.indexOf("=");
    pairs.push(decode(equals < 0 ? piece : piece.slice(0, equals)), equals < 0 ? "" : decode(piece.slice(equals + 1)));
  }
  return pairs;
}

/** WHATWG URL §5.1: `+` is a space, broken escapes stand for themselves, bytes are UTF-8. Never throws. */
function decode(text: string): string {
  if (!/[%+\x80-\xff]/.test(text)) return text;
  const bytes = text
    .replaceAll("+", " ")
    .replace(/%[0-9A-Fa-f]{2}/g, (coded) => String.fromCharCode(Number.parseInt(coded.slice(1), 16)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}
