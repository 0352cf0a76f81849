import { parseAuthority } from "../../core/authority.ts";
import type { ProtocolError } from "../../core/errors.ts";
import { H, HeaderList } from "../../core/header.ts";
import type { HttpVersion, RequestHead, ResponseHead, TargetForm } from "../../core/http.ts";
import { parseFields } from "./fields.ts";
import type { Framing } from "./framing.ts";
import type { HeadReader } from "./head-reader.ts";
import type { Http1Limits } from "./limits.ts";
import { refuse } from "./refuse.ts";

const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const SLASH = 0x2f;

// RFC 9110 §5.6.2: token.
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// Visible ASCII without "#": RFC 9112 §3.2 knows no fragment, and raw bytes beyond ASCII are no URI (RFC 3986 §2).
const TARGET = /^[!"$-~]+$/;
const ABSOLUTE = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?]*)(.*)$/;
// RFC 3986 §3.2.2 without the comma, which would let a list of hosts pass for one.
const HOST = /^(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?$/;

/**
 * Reads a request head that `reader` has found, and what it says about framing into `framing`.
 * @returns A refusal carries the status to answer with: 400, 431, 501 or 505.
 * @see RFC 9112 §3, §5
 */
export function parseRequestHead(
  reader: HeadReader,
  framing: Framing,
  limits: Http1Limits,
): RequestHead | ProtocolError {
  const headers = new HeaderList();
  const head = readRequest(reader, headers, framing, limits);
  // First of all reasons, so that the answer does not depend on where reads were split.
  if (!reader.isClean(headers.length + 1)) return refuse(400, "RFC 9112 §2.2", "control character in the head");
  return head;
}

function readRequest(
  reader: HeadReader,
  headers: HeaderList,
  framing: Framing,
  limits: Http1Limits,
): RequestHead | ProtocolError {
  const text = reader.text as string;
  const line = text.indexOf("\r\n");
  const afterMethod = text.indexOf(" ");
  const afterTarget = text.indexOf(" ", afterMethod + 1);
  // RFC 9112 §3: single spaces, and nothing else in between. Counting from the line's end leaves no room for more.
  if (afterMethod <= 0 || afterTarget <= afterMethod + 1 || afterTarget + 9 !== line) {
    return refuse(400, "RFC 9112 §3", "malformed request line");
  }
  if (!text.startsWith("HTTP/", afterTarget + 1) || text.charCodeAt(line - 2) !== 0x2e || !isDigit(text, line - 1)) {
    return refuse(400, "RFC 9112 §2.3", "malformed HTTP version");
  }
  if (text.charCodeAt(line - 3) !== DIGIT_0 + 1) {
    return refuse(isDigit(text, line - 3) ? 505 : 400, "RFC 9110 §15.6.6", "HTTP version not supported");
  }
  // RFC 9110 §2.5: a higher minor version is read as the highest one known.
  const version: HttpVersion = text.charCodeAt(line - 1) === DIGIT_0 ? "1.0" : "1.1";
  const method = readMethod(text, afterMethod);
  if (method === undefined) return refuse(400, "RFC 9112 §3.1", "method is not a token");
  if (afterTarget > limits.maxTargetBytes) return refuse(414, "RFC 9110 §15.5.15", "request target too long");
  const target = text.slice(afterMethod + 1, afterTarget);
  if (!TARGET.test(target)) return refuse(400, "RFC 9112 §3.2", "malformed request target");

  const error =
    parseFields(text, line + 2, reader.end, headers, limits.maxFields, 400, 431) ??
    framing.read(headers, version === "1.0", 400);
  if (error !== undefined) return error;

  const { host } = framing;
  // RFC 9112 §3.2: exactly one in 1.1; 1.0 clients need not know it.
  if (host === undefined && version === "1.1") return refuse(400, "RFC 9112 §3.2", "no Host");
  // Empty where the target has no authority (RFC 9110 §7.2).
  if (host !== undefined && host !== "" && !isHost(host)) return refuse(400, "RFC 9112 §3.2", "malformed Host");

  let scheme = "http";
  let authority = host === "" ? undefined : host;
  let path = target;
  let form: TargetForm = "origin";
  if (method === "CONNECT") {
    // RFC 9112 §3.2.3: host and port; RFC 9110 §9.3.6: no content. HTTP/1.0 has no CONNECT.
    const named = isHost(target) ? parseAuthority(target) : undefined;
    if (named?.port === undefined || version === "1.0") return refuse(400, "RFC 9112 §3.2.3", "malformed CONNECT");
    if (framing.chunked || framing.contentLength > 0) return refuse(400, "RFC 9110 §9.3.6", "CONNECT with content");
    form = "authority";
    authority = target;
    path = "";
  } else if (target.charCodeAt(0) !== SLASH) {
    if (target === "*") {
      if (method !== "OPTIONS") return refuse(400, "RFC 9112 §3.2.4", "asterisk-form is for OPTIONS");
      form = "asterisk";
    } else {
      const parts = ABSOLUTE.exec(target);
      scheme = (parts?.[1] ?? "").toLowerCase();
      authority = parts?.[2] ?? "";
      // RFC 9110 §4.2.4: userinfo is refused with everything else that is not host and port.
      if ((scheme !== "http" && scheme !== "https") || !isHost(authority)) {
        return refuse(400, "RFC 9112 §3.2.2", "malformed request target");
      }
      const rest = parts?.[3] as string;
      path = rest.charCodeAt(0) === SLASH ? rest : `/${rest}`;
      form = "absolute";
      if (rest === "" && method === "OPTIONS") {
        // RFC 9112 §3.2.4: without a path it asks about the server as a whole, and says so to the server itself.
        path = "*";
        form = "asterisk";
      }
      // RFC 9112 §3.2.2: the Host that came is replaced by the target's, so that nobody behind us reads another one.
      if (host !== undefined && host !== authority) headers.set(H.host, authority);
    }
  }
  return { method, scheme, authority, path, form, version, headers, protocol: undefined };
}

/**
 * Reads a response head that `reader` has found, and what it says about framing into `framing`.
 * @returns A refusal carries 502.
 * @see RFC 9112 §4, §5
 */
export function parseResponseHead(
  reader: HeadReader,
  framing: Framing,
  limits: Http1Limits,
): ResponseHead | ProtocolError {
  const headers = new HeaderList();
  const head = readResponse(reader, headers, framing, limits);
  if (!reader.isClean(headers.length + 1)) return refuse(502, "RFC 9112 §2.2", "control character in the head");
  return head;
}

function readResponse(
  reader: HeadReader,
  headers: HeaderList,
  framing: Framing,
  limits: Http1Limits,
): ResponseHead | ProtocolError {
  const text = reader.text as string;
  const line = text.indexOf("\r\n");
  // "HTTP/1.1 200" and at least the space, which many leave out when there is no reason phrase.
  if (
    line < 12 ||
    !text.startsWith("HTTP/1.") ||
    !isDigit(text, 7) ||
    text.charCodeAt(8) !== 0x20 ||
    (line > 12 && text.charCodeAt(12) !== 0x20)
  ) {
    return refuse(502, "RFC 9112 §4", "malformed status line");
  }
  const status = readStatus(text);
  if (status < 100 || status > 599) return refuse(502, "RFC 9110 §15", "malformed status code");
  const version: HttpVersion = text.charCodeAt(7) === DIGIT_0 ? "1.0" : "1.1";
  const error =
    parseFields(text, line + 2, reader.end, headers, limits.maxFields, 502, 502) ??
    framing.read(headers, version === "1.0", 502);
  if (error !== undefined) return error;
  return { status, version, headers, reason: text.slice(13, Math.max(13, line)) };
}

function readStatus(text: string): number {
  if (!isDigit(text, 9) || !isDigit(text, 10) || !isDigit(text, 11)) return 0;
  return (text.charCodeAt(9) - DIGIT_0) * 100 + (text.charCodeAt(10) - DIGIT_0) * 10 + text.charCodeAt(11) - DIGIT_0;
}

function readMethod(text: string, end: number): string | undefined {
  // The same objects again and again compare faster than slices do.
  if (end === 3 && text.startsWith("GET")) return "GET";
  if (end === 4 && text.startsWith("POST")) return "POST";
  const method = text.slice(0, end);
  return TOKEN.test(method) ? method : undefined;
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= DIGIT_0 && code <= DIGIT_9;
}

let lastHost = "";

/** Whether text is `host[:port]`: no list, no userinfo, no port beyond 65535. */
export function isHost(text: string): boolean {
  // A connection's requests mostly go to one host.
  if (text === lastHost) return true;
  if (!HOST.test(text) || parseAuthority(text) === undefined) return false;
  lastHost = text;
  return true;
}

/** Whether text may stand in a request line as method. */
export function isMethod(text: string): boolean {
  return text === "GET" || text === "POST" || TOKEN.test(text);
}

/** Whether text may stand in a request line as target, whatever its form. */
export function isTarget(text: string): boolean {
  return TARGET.test(text);
}
