/**
 * gRPC's own layer above HTTP: message prefixes, status, deadline. Pure: imports `proxy/core` only. The proxy forwards
 * messages unread; it looks at prefixes and status to count, classify and answer. Start reading at `status.ts`.
 */
export { decodeEnvelope, ENVELOPE_PREFIX_BYTES, type Envelope, EnvelopeReader, encodeEnvelope } from "./envelope.ts";
export {
  decodeGrpcMessage,
  encodeGrpcMessage,
  GrpcStatus,
  type GrpcStatusCode,
  grpcStatusFromHttp,
  grpcStatusName,
  parseGrpcStatus,
} from "./status.ts";
export { formatGrpcTimeout, parseGrpcTimeout } from "./timeout.ts";
