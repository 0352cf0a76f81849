import { type ProxyError, REASONS } from "../core/errors.ts";
import { H, HeaderList, headerName } from "../core/header.ts";
import type { RequestHead, ResponseHead } from "../core/http.ts";
import { parseGrpcStatus } from "../wire/grpc/index.ts";
import type { Exchange } from "./exchange.ts";
import type { Layer, ResponseLayer, Service } from "./service.ts";

export interface RescueOptions {
  /** Whether this client may read why: always the host's own programs, of others only peers with an identity. */
  readonly informs: (x: Exchange) => boolean;
  /** Called for every error that becomes an answer, for metrics and logs. */
  readonly onError?: (x: Exchange, error: ProxyError) => void;
}

const GRPC = "application/grpc";
const GRPC_MESSAGE = H.grpcMessage;
// Anything else cannot be a field value (RFC 9110 §5.5).
const FIELD_VALUE = /^[\x20-\x7e]*$/;

/** The one place where an error becomes an HTTP or gRPC answer. Outermost: it sees what no other layer took. */
export function rescue(options: RescueOptions): Layer {
  return { named: "rescue", wrap: (inner) => new Rescue(inner, options) };
}

class Rescue implements Service, ResponseLayer {
  readonly #inner: Service;
  readonly #options: RescueOptions;

  constructor(inner: Service, options: RescueOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  call(x: Exchange): void {
    x.observe(this);
    this.#inner.call(x);
  }

  onError(x: Exchange, error: ProxyError): boolean {
    this.#options.onError?.(x, error);
    // A native HTTP/2 stream hears the endpoint's own reason (outbound.md §8.3, inbound.md §6.6).
    if (error.resetCode !== undefined && x.request.version === "2" && !x.origProto) return false;
    x.answer(answerTo(x, error, this.#options.informs(x)), error.closes);
    return true;
  }

  /** A gRPC client hears in trailers what became of its call (outbound.md §8.4, inbound.md §6.6). */
  onCut(x: Exchange, error: ProxyError): HeaderList | undefined {
    if (error.resetCode !== undefined || !isGrpc(x.request) || x.origProto) return undefined;
    this.#options.onError?.(x, error);
    const trailers = new HeaderList();
    // A timeout after the head is reported as Linkerd does, who does not look for its cause.
    const grpc = error.reason === "response-timeout" ? REASONS.unexpected.grpc : error.grpc;
    x.grpcStatus = grpc;
    trailers.add(H.grpcStatus, String(grpc));
    if (this.#options.informs(x)) trailers.add(GRPC_MESSAGE, fieldValue(error.message));
    return trailers;
  }
}

/** Whether a request wants its errors as gRPC: HTTP/2 with that content type (inbound.md §6.6). */
export function isGrpc(head: RequestHead): boolean {
  return head.version === "2" && (head.headers.get(H.contentType)?.startsWith(GRPC) ?? false);
}

/**
 * `grpc-status` from headers or trailers; undefined if they have none, or none that is a number. A number that is no
 * status of gRPC counts as Unknown: an endpoint must not make a label of every number there is.
 */
export function grpcStatusOf(headers: HeaderList): number | undefined {
  const text = headers.get(H.grpcStatus);
  return text === undefined ? undefined : parseGrpcStatus(text);
}

function fieldValue(message: string): string {
  return FIELD_VALUE.test(message) ? message : REASONS.unexpected.text;
}

function answerTo(x: Exchange, error: ProxyError, informs: boolean): ResponseHead {
  const headers = new HeaderList();
  const message = fieldValue(error.message);
  headers.add(H.contentLength, "0");
  const grpc = isGrpc(x.request) && !x.origProto;
  if (grpc) {
    x.grpcStatus = error.grpc;
    headers.add(H.contentType, GRPC);
    headers.add(H.grpcStatus, String(error.grpc));
    if (informs) headers.add(GRPC_MESSAGE, message);
  }
  for (const [name, value] of error.headers ?? []) {
    const known = headerName(name);
    if (known !== undefined) headers.add(known, value);
  }
  if (informs) {
    headers.add(H.l5dProxyError, message);
    // Tells the peer's proxy to close its application's connection; the peer strips it.
    if (error.closes) headers.add(H.l5dProxyConnection, "close");
  }
  return { status: grpc ? 200 : error.http, version: x.request.version, headers, reason: undefined };
}
