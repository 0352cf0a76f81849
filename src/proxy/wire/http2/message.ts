import { H } from "../../core/header.ts";
import type { RequestHead, ResponseHead } from "../../core/http.ts";
import type { HeaderBlock } from "./hpack/index.ts";

const PORT = /[^:]:\d+$/;

/**
 * What is malformed about a block as a request head (RFC 9113 §8.3.1), undefined if nothing. Fields by themselves were
 * judged by the decoder; this is about which are there and what they say together.
 */
export function requestFault(block: HeaderBlock, extendedConnect: boolean): string | undefined {
  if (block.fault !== undefined) return block.fault;
  if (block.status !== undefined) return ":status in a request";
  if (block.method === undefined) return ":method is missing";
  if (block.protocol !== undefined) {
    // RFC 8441 §4: only CONNECT, only once it was offered, and then with everything another request has.
    if (!extendedConnect || block.method !== "CONNECT") return ":protocol in an ordinary request";
  } else if (block.method === "CONNECT") {
    // RFC 9113 §8.5.
    if (block.scheme !== undefined || block.path !== undefined) return ":scheme or :path in CONNECT";
    return block.authority === undefined || !PORT.test(block.authority) ? "CONNECT without host and port" : undefined;
  }
  if (block.scheme === undefined) return ":scheme is missing";
  if (block.path === undefined) return ":path is missing";
  if (block.path === "*" && block.method !== "OPTIONS") return ":path * in another request than OPTIONS";
  if (block.host !== undefined && block.authority !== undefined && differs(block.authority, block.host, block.scheme)) {
    // RFC 9113 §8.3.1. A carried HTTP/1 request keeps target and Host as they were, and they may disagree there.
    if (!block.headers.has(H.l5dOrigProto)) return "Host differs from :authority";
  }
  return undefined;
}

function differs(authority: string, host: string, scheme: string): boolean {
  if (authority === host) return false;
  return withoutDefaultPort(authority, scheme) !== withoutDefaultPort(host, scheme);
}

function withoutDefaultPort(authority: string, scheme: string): string {
  const lower = authority.toLowerCase();
  const port = scheme === "https" ? ":443" : ":80";
  return lower.endsWith(port) ? lower.slice(0, -port.length) : lower;
}

/** The head of a request whose {@link requestFault} is undefined. */
export function requestHead(block: HeaderBlock): RequestHead {
  const tunnel = block.method === "CONNECT" && block.protocol === undefined;
  return {
    method: block.method as string,
    scheme: block.scheme ?? "http",
    authority: block.authority,
    path: block.path ?? "",
    form: tunnel ? "authority" : block.path === "*" ? "asterisk" : "origin",
    version: "2",
    headers: block.headers,
    protocol: block.protocol,
  };
}

/** What is malformed about a block as a response head (RFC 9113 §8.3.2), undefined if nothing. */
export function responseFault(block: HeaderBlock, endStream: boolean): string | undefined {
  if (block.fault !== undefined) return block.fault;
  if (block.status === undefined) return ":status is missing";
  if (hasRequestPseudo(block)) return "request pseudo-header in a response";
  // RFC 9113 §8.6: there is no 101 in HTTP/2.
  if (block.status === "101") return "status 101";
  if (endStream && block.status < "200") return "END_STREAM with an interim response";
  return undefined;
}

function hasRequestPseudo(block: HeaderBlock): boolean {
  return (
    block.method !== undefined ||
    block.scheme !== undefined ||
    block.authority !== undefined ||
    block.path !== undefined ||
    block.protocol !== undefined
  );
}

/** The head of a response whose {@link responseFault} is undefined. */
export function responseHead(block: HeaderBlock): ResponseHead {
  return { status: digits(block.status as string), version: "2", headers: block.headers, reason: undefined };
}

/** Digits and nothing else, as the decoder saw. `Number` of a text goes through the runtime. */
function digits(text: string): number {
  let value = 0;
  for (let i = 0; i < text.length; i++) value = value * 10 + text.charCodeAt(i) - 0x30;
  return value;
}

/** What is malformed about a block as a trailer section (RFC 9113 §8.1), undefined if nothing. */
export function trailersFault(block: HeaderBlock, endStream: boolean): string | undefined {
  if (block.fault !== undefined) return block.fault;
  if (!endStream) return "trailers without END_STREAM";
  if (block.hasPseudo) return "pseudo-header in trailers";
  // RFC 9110 §6.5.1: framing and routing are settled before the content. A later hop must not find another length here.
  if (block.contentLength !== undefined || block.host !== undefined) return "framing or routing field in trailers";
  return undefined;
}

/**
 * Content that must follow by content-length; -1 if the message does not say.
 * @param status - Of a final response, 0 for a request.
 */
export function expectedContent(block: HeaderBlock, status: number, isHead: boolean, isConnect: boolean): number {
  if (status !== 0) {
    // RFC 9110 §6.4.1: whatever content-length says. §9.3.6: after CONNECT there is only the tunnel.
    if (isHead || status === 204 || status === 304) return 0;
    if (isConnect && status < 300) return -1;
  } else if (isConnect) return -1;
  return block.contentLength === undefined ? -1 : digits(block.contentLength);
}
