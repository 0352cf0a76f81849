/**
 * The header with which a balancer says whose connection it passes on: PROXY protocol, versions 1 and 2. Pure: imports
 * `proxy/core` only. Start reading at `header.ts`.
 */
export { decodeProxyHeader, MAX_PROXY_HEADER_BYTES, type ProxyHeader } from "./header.ts";
