import type { destination } from "../../proto/index.ts";
import { formatSocketAddress } from "../core/address.ts";
import { formatAuthority, isDnsName, parseAuthority } from "../core/authority.ts";
import {
  type Endpoint,
  type EndpointIdentity,
  type Http2ClientParams,
  sameEndpoint,
  sameHttp2,
  sameIdentity,
} from "../core/endpoint.ts";
import { decodeDuration } from "./duration.ts";
import { addressKey, decodeAddress } from "./net.ts";

/** What an update changed. */
export interface EndpointsChange {
  /** New or changed. */
  readonly add: readonly Endpoint[];
  /** Keys that are gone. */
  readonly remove: readonly string[];
}

/**
 * The endpoints of one `Destination.Get`, across reconnects.
 * @see outbound.md §4.2
 */
export class EndpointTable {
  readonly #endpoints: Map<string, Endpoint>;
  /** The next `add` replaces everything: nothing has been said on this stream yet. */
  #fresh = true;
  /** While an `add` that replaces everything arrives in parts: what it has named so far. */
  #named: Set<string> | undefined;
  /** The last one that was read: what stands beside it is mostly alike. */
  #last: Endpoint | undefined;

  constructor(stored: Iterable<Endpoint> = []) {
    this.#endpoints = new Map();
    for (const endpoint of stored) this.#endpoints.set(endpoint.key, endpoint);
  }

  get endpoints(): ReadonlyMap<string, Endpoint> {
    return this.#endpoints;
  }

  /** A new stream begins; what is known stays until its first effective message. */
  reconnected(): void {
    this.#fresh = true;
    this.#named = undefined;
  }

  /**
   * Takes one part of a long `add` or `remove`. Endpoints come and go at once; what a replacing `add` does not name goes
   * with the last part.
   */
  applyPart(update: destination.Update, last: boolean): EndpointsChange | undefined {
    if (update.update.case !== "add") return this.apply(update);
    const given = this.#decodeAll(update.update.value);
    if (this.#fresh) {
      this.#fresh = false;
      this.#named = new Set();
    }
    const named = this.#named;
    if (named !== undefined) for (const key of given.keys()) named.add(key);
    const add = this.#put(given.values());
    if (!last || named === undefined) return { add, remove: [] };
    this.#named = undefined;
    return { add, remove: this.#dropUnless(named) };
  }

  /** @returns undefined: the message has no effect, and does not count as a first one. */
  apply(update: destination.Update): EndpointsChange | undefined {
    switch (update.update.case) {
      case "add":
        return this.#add(update.update.value);
      case "remove":
        return this.#remove(update.update.value);
      case "noEndpoints":
        // Whether the name exists or not: there is nowhere else to go.
        this.#fresh = false;
        return this.#replace(new Map());
      default:
        return undefined;
    }
  }

  #add(message: destination.WeightedAddrSet): EndpointsChange | undefined {
    const given = this.#decodeAll(message);
    if (given.size === 0) return undefined;
    if (this.#fresh) {
      this.#fresh = false;
      return this.#replace(given);
    }
    return { add: this.#put(given.values()), remove: [] };
  }

  #remove(message: destination.AddrSet): EndpointsChange | undefined {
    // What it refers to was said on a stream that is gone.
    if (this.#fresh) return undefined;
    const remove: string[] = [];
    for (const address of message.addrs) {
      const key = addressKey(address);
      if (key !== undefined && this.#endpoints.delete(key)) remove.push(key);
    }
    return { add: [], remove };
  }

  #replace(given: Map<string, Endpoint>): EndpointsChange {
    const remove = this.#dropUnless(given);
    return { add: this.#put(given.values()), remove };
  }

  #decodeAll(message: destination.WeightedAddrSet): Map<string, Endpoint> {
    const given = new Map<string, Endpoint>();
    for (const each of message.addrs) {
      const endpoint = decodeEndpoint(each, message.metricLabels, this.#last);
      if (endpoint === undefined) continue;
      this.#last = endpoint;
      given.set(endpoint.key, endpoint);
    }
    return given;
  }

  #dropUnless(kept: { has(key: string): boolean }): string[] {
    const remove: string[] = [];
    for (const key of this.#endpoints.keys()) if (!kept.has(key)) remove.push(key);
    for (const key of remove) this.#endpoints.delete(key);
    return remove;
  }

  #put(given: Iterable<Endpoint>): Endpoint[] {
    const add: Endpoint[] = [];
    for (const endpoint of given) {
      const known = this.#endpoints.get(endpoint.key);
      if (known !== undefined && sameEndpoint(known, endpoint)) continue;
      this.#endpoints.set(endpoint.key, endpoint);
      add.push(endpoint);
    }
    return add;
  }
}

/**
 * Brings a `name:port` into the form that `Destination.Get` takes: lower case, without the trailing dot.
 * @returns undefined if there is no port.
 */
export function destinationPath(text: string): string | undefined {
  const authority = parseAuthority(text);
  if (authority === undefined || !authority.port) return undefined;
  const { host, port } = authority;
  return formatAuthority({ host: host.endsWith(".") ? host.slice(0, -1) : host, port });
}

/**
 * Reads one address with its metadata.
 * @param alike - Its identity and parameters are taken over where they are the same: one object crosses threads once.
 * @returns undefined if the address cannot be read: the entry is skipped.
 * @see outbound.md §4.3
 */
export function decodeEndpoint(
  message: destination.WeightedAddr,
  setLabels: Readonly<Record<string, string>>,
  alike?: Endpoint,
): Endpoint | undefined {
  const address = decodeAddress(message.addr);
  if (address === undefined) return undefined;
  const labels: Readonly<Record<string, string>> = { ...setLabels, ...message.metricLabels };
  const identity = decodeIdentity(message.tlsIdentity);
  const http2 = message.http2 && decodeHttp2(message.http2);
  const hint = message.protocolHint?.protocol.case;
  return {
    key: formatSocketAddress(address),
    address,
    identity: sameIdentity(alike?.identity, identity) ? alike?.identity : identity,
    // An identity that we cannot check is no reason to speak plaintext, as Linkerd would.
    expectsIdentity: message.tlsIdentity !== undefined,
    hint: hint === "h2" || hint === "opaque" ? hint : undefined,
    inboundPort: decodeInboundPort(message.protocolHint?.opaqueTransport?.inboundPort),
    authorityOverride: decodeAuthorityOverride(message.authorityOverride?.authorityOverride),
    weight: message.weight,
    zone: labels["zone"] || undefined,
    zoneLocality: decodeLocality(labels["zone_locality"]),
    labels,
    http2: sameHttp2(alike?.http2, http2) ? alike?.http2 : http2,
  };
}

function decodeIdentity(message: destination.TlsIdentity | undefined): EndpointIdentity | undefined {
  const serverName = message?.serverName?.name.toLowerCase();
  if (message === undefined || (serverName !== undefined && !isDnsName(serverName))) return undefined;
  const { strategy } = message;
  if (strategy.case === "dnsLikeIdentity") {
    const id = strategy.value.name.toLowerCase();
    return isDnsName(id) ? { kind: "dns", id, serverName: serverName ?? id } : undefined;
  }
  if (strategy.case === "uriLikeIdentity") {
    const id = strategy.value.uri;
    // Without a server name there is nothing to send as SNI.
    return serverName !== undefined && URL.canParse(id) ? { kind: "uri", id, serverName } : undefined;
  }
  return undefined;
}

function decodeInboundPort(port: number | undefined): number | undefined {
  // 65535 is refused by Linkerd, too.
  return port !== undefined && port > 0 && port < 65_535 ? port : undefined;
}

function decodeAuthorityOverride(text: string | undefined): string | undefined {
  return text !== undefined && text !== "" && parseAuthority(text) !== undefined ? text : undefined;
}

function decodeLocality(label: string | undefined): Endpoint["zoneLocality"] {
  const locality = label?.toLowerCase();
  return locality === "local" || locality === "remote" ? locality : "unknown";
}

function decodeHttp2(message: destination.Http2ClientParams): Http2ClientParams {
  const { flowControl, keepAlive, internals } = message;
  // Fixed windows count only as a pair.
  const fixed = (flowControl?.initialConnectionWindowSize ?? 0) > 0 && (flowControl?.initialStreamWindowSize ?? 0) > 0;
  const intervalMs = optionalDuration(keepAlive?.interval);
  const timeoutMs = optionalDuration(keepAlive?.timeout);
  return {
    initialConnectionWindowBytes: fixed ? flowControl?.initialConnectionWindowSize : undefined,
    initialStreamWindowBytes: fixed ? flowControl?.initialStreamWindowSize : undefined,
    adaptiveFlowControl: flowControl?.adaptiveFlowControl ?? false,
    keepAlive:
      intervalMs !== undefined && timeoutMs !== undefined
        ? { intervalMs, timeoutMs, whileIdle: keepAlive?.whileIdle ?? false }
        : undefined,
    maxConcurrentResetStreams: internals?.maxConcurrentResetStreams || undefined,
    maxFrameBytes: internals?.maxFrameSize || undefined,
    maxSendBufferBytes: internals?.maxSendBufSize || undefined,
  };
}

function optionalDuration(message: Parameters<typeof decodeDuration>[0]): number | undefined {
  return message !== undefined && message.seconds >= 0n && message.nanos >= 0 ? decodeDuration(message, "") : undefined;
}
