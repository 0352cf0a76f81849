/**
 * The preface with which a meshed client says, inside mesh TLS, where its stream belongs: target port, name, HTTP
 * version. Pure: imports `proxy/core` only. Start reading at `codec.ts`.
 */
export {
  decodeTransportHeader,
  encodeTransportHeader,
  MAX_TRANSPORT_HEADER_BYTES,
  TRANSPORT_ALPN,
  type TransportHeader,
} from "./codec.ts";
