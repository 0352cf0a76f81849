/**
 * What can be learnt from a TLS connection without being part of it: the name it asks for. Pure: imports `proxy/core`
 * only. Terminating TLS is `transport/`. Start reading at `client-hello.ts`.
 */
export { type ClientHello, decodeClientHello, MAX_CLIENT_HELLO_BYTES } from "./client-hello.ts";
