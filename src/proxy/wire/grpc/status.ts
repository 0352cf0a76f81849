/** The codes of gRPC. */
export const GrpcStatus = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;

export type GrpcStatusCode = (typeof GrpcStatus)[keyof typeof GrpcStatus];

const NAMES: readonly string[] = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

/** The name of a code in upper case, as metrics spell it; `UNKNOWN` for a number that is no code. */
export function grpcStatusName(code: number): string {
  return NAMES[code] ?? "UNKNOWN";
}

/**
 * Reads a `grpc-status` value.
 * @returns undefined for text that is no number; 2 (unknown) for a number that is no code, as clients do.
 */
export function parseGrpcStatus(text: string): GrpcStatusCode | undefined {
  if (!/^[0-9]{1,10}$/.test(text)) return undefined;
  const code = Number(text);
  return code < NAMES.length ? (code as GrpcStatusCode) : GrpcStatus.unknown;
}

/**
 * What a gRPC client makes of an HTTP status other than 200 without `grpc-status`: the answer of somebody in between.
 * @see gRPC, "HTTP to gRPC Status Code Mapping"
 */
export function grpcStatusFromHttp(status: number): GrpcStatusCode {
  switch (status) {
    case 400:
      return GrpcStatus.internal;
    case 401:
      return GrpcStatus.unauthenticated;
    case 403:
      return GrpcStatus.permissionDenied;
    case 404:
      return GrpcStatus.unimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return GrpcStatus.unavailable;
    default:
      return GrpcStatus.unknown;
  }
}

// Everything but printable ASCII, and the percent sign itself.
const ESCAPED = /[^ -$&-~]/;

/**
 * Formats text for `grpc-message`: UTF-8, with `%XX` for what is not printable ASCII.
 * @see gRPC over HTTP/2, "Percent-Encoded"
 */
export function encodeGrpcMessage(text: string): string {
  if (!ESCAPED.test(text)) return text;
  let encoded = "";
  for (const byte of Buffer.from(text, "utf8")) {
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return encoded;
}

/** Reads `grpc-message`. What is not well encoded stays as it is: messages are for people, and are never refused. */
export function decodeGrpcMessage(value: string): string {
  if (!value.includes("%")) return value;
  const bytes: number[] = [];
  for (let at = 0; at < value.length; at++) {
    const hex = value.slice(at + 1, at + 3);
    if (value.charCodeAt(at) === 0x25 && /^[0-9A-Fa-f]{2}$/.test(hex)) {
      bytes.push(Number.parseInt(hex, 16));
      at += 2;
    } else bytes.push(value.charCodeAt(at) & 0xff);
  }
  return Buffer.from(bytes).toString("utf8");
}
