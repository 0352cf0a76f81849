import { formatSocketAddress, type SocketAddress } from "./address.ts";

/** Whom an endpoint must prove to be. */
export interface EndpointIdentity {
  /** Which kind of SAN must equal {@link id}. */
  readonly kind: "dns" | "uri";
  /** DNS name in lower case, or a URI. */
  readonly id: string;
  /** What to send as SNI. */
  readonly serverName: string;
}

/** What the control plane wants of our HTTP/2 client towards an endpoint; undefined fields keep our defaults. */
export interface Http2ClientParams {
  readonly initialConnectionWindowBytes: number | undefined;
  readonly initialStreamWindowBytes: number | undefined;
  readonly adaptiveFlowControl: boolean;
  readonly keepAlive:
    | { readonly intervalMs: number; readonly timeoutMs: number; readonly whileIdle: boolean }
    | undefined;
  readonly maxConcurrentResetStreams: number | undefined;
  readonly maxFrameBytes: number | undefined;
  readonly maxSendBufferBytes: number | undefined;
}

/** One `ip:port` that serves a backend. Plain data: it crosses threads and is kept in files. */
export interface Endpoint {
  /** `ip:port`, unique within a backend. */
  readonly key: string;
  readonly address: SocketAddress;
  /** Undefined: plaintext, unless {@link expectsIdentity}. */
  readonly identity: EndpointIdentity | undefined;
  /** An identity was announced; with no usable {@link identity} the endpoint is refused rather than sent plaintext. */
  readonly expectsIdentity: boolean;
  /** `h2`: HTTP/1 may travel as HTTP/2; `opaque`: the transport header carries no session protocol. */
  readonly hint: "h2" | "opaque" | undefined;
  /** Port of the peer's proxy that takes the transport header; counts only with an {@link identity}. */
  readonly inboundPort: number | undefined;
  /** `host[:port]` that replaces the request's, for gateways in other clusters. */
  readonly authorityOverride: string | undefined;
  /** As sent by the control plane, 10000 = one. Informative: Linkerd's balancer does not read it. */
  readonly weight: number;
  readonly zone: string | undefined;
  readonly zoneLocality: "local" | "remote" | "unknown";
  /** Metric labels: the endpoint's over its set's. */
  readonly labels: Readonly<Record<string, string>>;
  readonly http2: Http2ClientParams | undefined;
}

/** An endpoint of which only the address is known: plaintext. */
export function plainEndpoint(address: SocketAddress): Endpoint {
  return {
    key: formatSocketAddress(address),
    address,
    identity: undefined,
    expectsIdentity: false,
    hint: undefined,
    inboundPort: undefined,
    authorityOverride: undefined,
    weight: 10_000,
    zone: undefined,
    zoneLocality: "unknown",
    labels: {},
    http2: undefined,
  };
}

/** Whether two descriptions of one address agree in everything. */
export function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a === b || (a.weight === b.weight && sameButWeight(a, b));
}

/** Whether two descriptions of one address agree in what matters to connections and load estimate, so that these may stay. */
export function sameButWeight(a: Endpoint, b: Endpoint): boolean {
  return (
    a === b ||
    (a.key === b.key &&
      sameIdentity(a.identity, b.identity) &&
      a.expectsIdentity === b.expectsIdentity &&
      a.hint === b.hint &&
      a.inboundPort === b.inboundPort &&
      a.authorityOverride === b.authorityOverride &&
      a.zone === b.zone &&
      a.zoneLocality === b.zoneLocality &&
      sameLabels(a.labels, b.labels) &&
      sameHttp2(a.http2, b.http2))
  );
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  let count = 0;
  for (const name in a) {
    if (a[name] !== b[name]) return false;
    count++;
  }
  for (const _ in b) count--;
  return count === 0;
}

/** Whether two endpoints are to prove the same. */
export function sameIdentity(a: EndpointIdentity | undefined, b: EndpointIdentity | undefined): boolean {
  return a === b || (a?.kind === b?.kind && a?.id === b?.id && a?.serverName === b?.serverName);
}

/** Whether the control plane wants the same of our HTTP/2 client towards two endpoints. */
export function sameHttp2(a: Http2ClientParams | undefined, b: Http2ClientParams | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  return (
    a.initialConnectionWindowBytes === b.initialConnectionWindowBytes &&
    a.initialStreamWindowBytes === b.initialStreamWindowBytes &&
    a.adaptiveFlowControl === b.adaptiveFlowControl &&
    a.keepAlive?.intervalMs === b.keepAlive?.intervalMs &&
    a.keepAlive?.timeoutMs === b.keepAlive?.timeoutMs &&
    a.keepAlive?.whileIdle === b.keepAlive?.whileIdle &&
    a.maxConcurrentResetStreams === b.maxConcurrentResetStreams &&
    a.maxFrameBytes === b.maxFrameBytes &&
    a.maxSendBufferBytes === b.maxSendBufferBytes
  );
}
