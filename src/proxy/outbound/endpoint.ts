import { isLoopback, parseIp } from "../core/address.ts";
import { isDnsName, parseAuthority } from "../core/authority.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { ProxyError } from "../core/errors.ts";
import { H } from "../core/header.ts";
import type { Backend } from "../policy/index.ts";
import { type Dispatcher, type Exchange, markOrigProto } from "../stack/index.ts";
import type { ConnectTarget } from "../transport/connect.ts";
import { Http1Pool, Http2Pool } from "../transport/pool.ts";
import { MESH_WINDOW_BYTES } from "../wire/http2/index.ts";
import { encodeTransportHeader } from "../wire/transport-header/index.ts";
import { continueInTime } from "./continuation.ts";
import type { OutboundDeps } from "./deps.ts";

// Linkerd: LINKERD2_PROXY_OUTBOUND_CONNECT_EXP_BACKOFF, 100 ms to 60 s.
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 60_000;

export type SessionProtocol = "http1" | "http2" | undefined;

/** Whether the endpoint is this very workload: reached in clear text, whatever discovery says about it. */
export function isLocal(deps: OutboundDeps, endpoint: Endpoint): boolean {
  return deps.config.localIps.has(endpoint.address.ip);
}

/**
 * How to reach an endpoint: its own port, or its proxy's with a transport header that names its own port.
 * @param protocol - What the connection will carry; undefined: bytes.
 */
export function connectTarget(deps: OutboundDeps, endpoint: Endpoint, protocol: SessionProtocol): ConnectTarget {
  const { identity } = endpoint;
  // Without TLS the proxy's port is not dialled: only the header, inside TLS, says where the stream belongs.
  if (identity === undefined || isLocal(deps, endpoint)) return { address: endpoint.address, tls: undefined };
  const gateway = endpoint.authorityOverride === undefined ? undefined : parseAuthority(endpoint.authorityOverride);
  const named = gateway?.port === undefined ? undefined : gateway;
  const header =
    endpoint.inboundPort === undefined && endpoint.authorityOverride === undefined
      ? undefined
      : encodeTransportHeader({
          port: named?.port ?? endpoint.address.port,
          name: named?.host,
          protocol: endpoint.hint === "opaque" ? undefined : protocol,
        });
  return {
    address: { ip: endpoint.address.ip, port: endpoint.inboundPort ?? endpoint.address.port },
    tls: { serverName: identity.serverName, identity: identity.id, header },
  };
}

/** Whether discovery announced an identity that we cannot check; such an endpoint is not spoken to in clear text. */
function isUnproven(deps: OutboundDeps, endpoint: Endpoint): boolean {
  return (
    endpoint.expectsIdentity &&
    endpoint.identity === undefined &&
    deps.config.onMissingIdentity !== "plaintext" &&
    !isLocal(deps, endpoint)
  );
}

/**
 * Why an endpoint is not dialled at all; undefined: it is.
 * @see outbound.md §1.2: a name in the cluster must not lead to what listens for this host alone.
 */
export function refusalOf(deps: OutboundDeps, endpoint: Endpoint): ProxyError | undefined {
  const { key, address } = endpoint;
  if (isUnproven(deps, endpoint))
    return new ProxyError("identity-missing", `endpoint ${key}: should be meshed, but its identity is unusable`);
  return deps.config.dialsLoopback !== true && leadsToLoopback(address.ip)
    ? new ProxyError("connect-failed", `endpoint ${key}: is on this host's loopback interface`)
    : undefined;
}

/** The kernel takes the unspecified address for loopback, too. */
function leadsToLoopback(text: string): boolean {
  const ip = parseIp(text);
  return ip !== undefined && (isLoopback(ip) || ip.words.every((word) => word === 0));
}

/**
 * Makes a request ready for one endpoint, last of all: the identity that the program insists on, the name that a
 * gateway wants.
 * @returns false: the exchange has failed.
 * @see outbound.md §7.5, §8.2
 */
function addressed(deps: OutboundDeps, endpoint: Endpoint, x: Exchange): boolean {
  const { request } = x;
  const required = request.headers.get(H.l5dRequireId);
  if (required !== undefined) {
    request.headers.remove(H.l5dRequireId.lower);
    const found = isLocal(deps, endpoint) ? undefined : endpoint.identity?.id;
    // What is no identity at all is dropped without a check.
    if ((isDnsName(required) || URL.canParse(required)) && found !== required.toLowerCase() && found !== required) {
      x.fail(new ProxyError("identity-mismatch", `required id ${required}; found ${found ?? "none"}`));
      return false;
    }
  }
  if (endpoint.authorityOverride !== undefined && !isLocal(deps, endpoint)) {
    request.authority = endpoint.authorityOverride;
    request.headers.remove(H.host.lower);
    request.headers.remove(H.l5dDstCanonical.lower);
  }
  return true;
}

/** Our connections to one endpoint for one HTTP version of the application. */
export interface EndpointService extends Dispatcher {
  /** An exchange may be dispatched now. */
  readonly ready: boolean;
  /** The last attempt to connect has failed. */
  readonly failing: boolean;
  /** Whether closing is more than forgetting. */
  readonly hasConnections: boolean;
  /** Opens what can be opened ahead. */
  connect(): void;
  close(): void;
}

/**
 * @param backend - On whose behalf, for labels.
 * @param version - What the application speaks: `1` may be carried over the peer's HTTP/2.
 * @param onReadiness - {@link EndpointService.ready} may have changed.
 */
export function endpointService(
  deps: OutboundDeps,
  endpoint: Endpoint,
  backend: Backend,
  version: "1" | "2",
  onReadiness: () => void,
): EndpointService {
  if (refusalOf(deps, endpoint) !== undefined) return new RefusedEndpoint(deps, endpoint);
  if (version === "2") return new Http2Endpoint(deps, endpoint, backend, onReadiness);
  if (endpoint.hint === "h2" && !isLocal(deps, endpoint))
    return new UpgradedEndpoint(deps, endpoint, backend, onReadiness);
  return new Http1Endpoint(deps, endpoint, backend);
}

/** One that is not dialled: see {@link refusalOf}. */
class RefusedEndpoint implements EndpointService {
  readonly ready = true;
  readonly failing = false;
  readonly hasConnections = false;
  readonly #deps: OutboundDeps;
  readonly #endpoint: Endpoint;

  constructor(deps: OutboundDeps, endpoint: Endpoint) {
    this.#deps = deps;
    this.#endpoint = endpoint;
  }

  dispatch(x: Exchange): void {
    x.fail(refusalOf(this.#deps, this.#endpoint) ?? new ProxyError("unexpected"));
  }

  connect(): void {}
  close(): void {}
}

/*
 * Pools are made when they are first needed: of a Service's 5,000 endpoints, connections are kept to a few.
 */

class Http1Endpoint implements EndpointService {
  readonly ready = true;
  readonly failing = false;
  readonly #deps: OutboundDeps;
  readonly #endpoint: Endpoint;
  readonly #backend: Backend;
  #pool: Http1Pool | undefined;
  #closed = false;

  constructor(deps: OutboundDeps, endpoint: Endpoint, backend: Backend) {
    this.#deps = deps;
    this.#endpoint = endpoint;
    this.#backend = backend;
  }

  get hasConnections(): boolean {
    return this.#pool !== undefined;
  }

  dispatch(x: Exchange): void {
    if (!addressed(this.#deps, this.#endpoint, x)) return;
    if (this.#pool === undefined) {
      this.#pool = http1Pool(this.#deps, this.#endpoint, this.#backend);
      if (this.#closed) this.#pool.close();
    }
    this.#pool.dispatch(x);
  }

  connect(): void {}

  close(): void {
    this.#closed = true;
    this.#pool?.close();
  }
}

class Http2Endpoint implements EndpointService {
  readonly #deps: OutboundDeps;
  readonly #endpoint: Endpoint;
  readonly #backend: Backend;
  readonly #onReadiness: () => void;
  #pool: Http2Pool | undefined;
  #closed = false;

  constructor(deps: OutboundDeps, endpoint: Endpoint, backend: Backend, onReadiness: () => void) {
    this.#deps = deps;
    this.#endpoint = endpoint;
    this.#backend = backend;
    this.#onReadiness = onReadiness;
  }

  get ready(): boolean {
    return this.#pool?.ready === true;
  }

  get failing(): boolean {
    return this.#pool?.lastError !== undefined;
  }

  get hasConnections(): boolean {
    return this.#pool !== undefined;
  }

  dispatch(x: Exchange): void {
    if (addressed(this.#deps, this.#endpoint, x)) this.pool().dispatch(x);
  }

  connect(): void {
    this.pool().connect();
  }

  close(): void {
    this.#closed = true;
    this.#pool?.close();
  }

  protected pool(): Http2Pool {
    if (this.#pool === undefined) {
      this.#pool = http2Pool(this.#deps, this.#endpoint, this.#backend, this.#onReadiness);
      if (this.#closed) this.#pool.close();
    }
    return this.#pool;
  }
}

/** A meshed peer that takes HTTP/1 as HTTP/2: many requests over one connection. Upgrades need one of their own. */
class UpgradedEndpoint extends Http2Endpoint {
  readonly #deps: OutboundDeps;
  readonly #endpoint: Endpoint;
  readonly #upgrades: Http1Endpoint;

  constructor(deps: OutboundDeps, endpoint: Endpoint, backend: Backend, onReadiness: () => void) {
    super(deps, endpoint, backend, onReadiness);
    this.#deps = deps;
    this.#endpoint = endpoint;
    this.#upgrades = new Http1Endpoint(deps, endpoint, backend);
  }

  override get hasConnections(): boolean {
    return super.hasConnections || this.#upgrades.hasConnections;
  }

  override dispatch(x: Exchange): void {
    if (x.upgrade) return this.#upgrades.dispatch(x);
    if (!addressed(this.#deps, this.#endpoint, x)) return;
    continueInTime(this.#deps.runtime, x);
    markOrigProto(x);
    this.pool().dispatch(x);
  }

  override close(): void {
    super.close();
    this.#upgrades.close();
  }
}

function http2Pool(deps: OutboundDeps, endpoint: Endpoint, backend: Backend, onReadiness: () => void): Http2Pool {
  const params = endpoint.http2;
  return new Http2Pool(
    deps.runtime,
    connectTarget(deps, endpoint, "http2"),
    {
      connectTimeoutMs: deps.config.connectTimeoutMs,
      context: () => deps.mesh.context,
      meter: () => deps.meters.dialled(endpoint, backend),
      tune: deps.tune,
      http2: {
        ...(params?.keepAlive === undefined ? {} : { keepAlive: params.keepAlive }),
        ...(params?.initialStreamWindowBytes === undefined
          ? { maxStreamWindowBytes: MESH_WINDOW_BYTES }
          : { streamWindowBytes: params.initialStreamWindowBytes }),
        ...(params?.initialConnectionWindowBytes === undefined
          ? {}
          : { connectionWindowBytes: params.initialConnectionWindowBytes }),
      },
      backoffMinMs: BACKOFF_MIN_MS,
      backoffMaxMs: BACKOFF_MAX_MS,
      failfastMs: deps.config.failfastMs,
      rng: deps.rng,
    },
    onReadiness,
  );
}

function http1Pool(deps: OutboundDeps, endpoint: Endpoint, backend: Backend): Http1Pool {
  return new Http1Pool(deps.runtime, connectTarget(deps, endpoint, "http1"), {
    connectTimeoutMs: deps.config.connectTimeoutMs,
    context: () => deps.mesh.context,
    meter: () => deps.meters.dialled(endpoint, backend),
    tune: deps.tune,
  });
}
