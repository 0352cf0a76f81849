import { H, type HeaderList, type HeaderName } from "../../core/header.ts";
import type { RequestHead, ResponseHead } from "../../core/http.ts";
import type { ByteSink } from "../../core/machine.ts";
import { FRAME_HEADER_BYTES, finishHeaders, headersFrameBound } from "./frame/index.ts";
import { type HpackEncoder, Pseudo } from "./hpack/index.ts";

// :method, :scheme, :authority, :path, :protocol.
const MAX_PSEUDO_FIELDS = 5;

/** Writes header sections as HEADERS and, if need be, CONTINUATION frames: one per connection. */
export class HeaderWriter {
  readonly #sink: ByteSink;
  readonly #encoder: HpackEncoder;
  /** The peer's SETTINGS_MAX_FRAME_SIZE, or less. */
  maxFrameBytes: number;

  constructor(sink: ByteSink, encoder: HpackEncoder, maxFrameBytes: number) {
    this.#sink = sink;
    this.#encoder = encoder;
    this.maxFrameBytes = maxFrameBytes;
  }

  writeRequest(streamId: number, head: RequestHead, endStream: boolean): void {
    const { method, scheme, authority, path, protocol } = head;
    const text = method.length + scheme.length + (authority?.length ?? 0) + path.length + (protocol?.length ?? 0);
    const frame = this.#reserve(head.headers, text);
    const { buffer } = this.#sink;
    const encoder = this.#encoder;
    let at = encoder.begin(buffer, frame + FRAME_HEADER_BYTES);
    at = encoder.field(buffer, at, Pseudo.method, method);
    // RFC 9113 §8.5: CONNECT has an authority and nothing else; extended CONNECT has everything (RFC 8441 §4).
    const tunnel = method === "CONNECT" && protocol === undefined;
    if (!tunnel) at = encoder.field(buffer, at, Pseudo.scheme, scheme);
    if (authority !== undefined) at = encoder.field(buffer, at, Pseudo.authority, authority);
    if (!tunnel) at = encoder.field(buffer, at, Pseudo.path, path);
    if (protocol !== undefined) at = encoder.field(buffer, at, Pseudo.protocol, protocol);
    at = this.#fields(buffer, at, head.headers);
    finishHeaders(this.#sink, frame, at, streamId, endStream, this.maxFrameBytes);
  }

  writeResponse(streamId: number, head: ResponseHead, endStream: boolean): void {
    const frame = this.#reserve(head.headers, 3);
    const { buffer } = this.#sink;
    let at = this.#encoder.begin(buffer, frame + FRAME_HEADER_BYTES);
    at = this.#encoder.field(buffer, at, Pseudo.status, String(head.status));
    at = this.#fields(buffer, at, head.headers);
    finishHeaders(this.#sink, frame, at, streamId, endStream, this.maxFrameBytes);
  }

  writeTrailers(streamId: number, trailers: HeaderList): void {
    const frame = this.#reserve(trailers, 0);
    const { buffer } = this.#sink;
    const at = this.#fields(buffer, this.#encoder.begin(buffer, frame + FRAME_HEADER_BYTES), trailers);
    finishHeaders(this.#sink, frame, at, streamId, true, this.maxFrameBytes);
  }

  #reserve(headers: HeaderList, pseudoText: number): number {
    const { names, values } = headers;
    // No pseudo-header name has more than ten octets.
    let text = pseudoText + MAX_PSEUDO_FIELDS * 10;
    for (let i = 0; i < names.length; i++) text += (names[i] as HeaderName).lower.length + (values[i] as string).length;
    const block = this.#encoder.bound(names.length + MAX_PSEUDO_FIELDS, text);
    return this.#sink.reserve(headersFrameBound(block, this.maxFrameBytes));
  }

  #fields(buffer: Buffer, start: number, headers: HeaderList): number {
    const { names, values } = headers;
    let at = start;
    for (let i = 0; i < names.length; i++) {
      const name = names[i] as HeaderName;
      const value = values[i] as string;
      // RFC 9113 §8.2.2: a list that came from HTTP/1 may still hold these; they end here.
      if (name.hopByHop || (name.canonical === H.te && value.toLowerCase() !== "trailers")) continue;
      at = this.#encoder.field(buffer, at, name, value);
    }
    return at;
  }
}
