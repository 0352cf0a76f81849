import type { SocketAddress } from "../core/address.ts";
import type { Client } from "../policy/index.ts";
import type { ConnectionFailure } from "../stack/index.ts";
import type { Accepted } from "../transport/listener.ts";
import { Peek, type PeekDecider } from "../transport/peekable.ts";
import type { HandshakeWaiter, Terminated } from "../transport/tls-server.ts";
import { decodeClientHello } from "../wire/tls/index.ts";
import { decodeTransportHeader, type TransportHeader } from "../wire/transport-header/index.ts";
import type { Arrival } from "./arrival.ts";
import type { InboundParts } from "./deps.ts";
import { whenKnown } from "./discover.ts";
import type { InboundHttp } from "./http.ts";
import { forwardOpaque } from "./opaque.ts";

/**
 * The road between meshed peers: our port 4143, mesh TLS with a client identity, the transport header's ALPN, the
 * header, then the stream. Whatever is missing closes the connection without a word.
 */
export function acceptDirect(deps: InboundParts, http: InboundHttp, accepted: Accepted, client: Client): void {
  const { socket } = accepted;
  const refuse = (why: string, failure: ConnectionFailure = "unexpected") => {
    deps.meters.failed(accepted.originalDst, failure);
    deps.runtime.log.debug("refused a direct connection", { client: accepted.client.ip, why });
    socket.destroy();
  };
  const waiter: HandshakeWaiter = {
    terminated(done) {
      if (done.identity === undefined) return refuse("no client identity");
      if (!done.transportHeader) return refuse("no transport header negotiated");
      const proven: Client = { ip: client.ip, tls: "identity", id: done.identity, otherNames: done.otherNames };
      readHeader(deps, http, accepted, done, proven, refuse);
    },
    refused(why) {
      refuse(why, "connect-failed");
    },
  };
  const decider: PeekDecider = {
    look(bytes) {
      const hello = decodeClientHello(bytes);
      if (hello.kind === "more") return false;
      const { identity, terminator } = deps.mesh;
      if (terminator === undefined) refuse("no identity yet");
      else if (hello.kind === "no") refuse(hello.why);
      else if (hello.value.serverName !== identity?.serverName.toLowerCase()) refuse("not our name");
      else terminator.terminate(socket, bytes, true, waiter);
      return true;
    },
    ended: () => refuse("closed before a ClientHello", "connect-failed"),
    timedOut: () => refuse("no ClientHello in time", "tls-detect-timeout"),
    lost() {},
  };
  new Peek(socket, deps.runtime, deps.config.detectTimeoutMs, decider);
}

function readHeader(
  deps: InboundParts,
  http: InboundHttp,
  accepted: Accepted,
  done: Terminated,
  client: Client,
  refuse: (why: string, failure?: ConnectionFailure) => void,
): void {
  const decider: PeekDecider = {
    look(bytes) {
      const header = decodeTransportHeader(bytes);
      if (header.kind === "more") return false;
      if (header.kind === "no") refuse(header.why);
      else dispatch(deps, http, accepted, done, client, header.value, bytes.subarray(header.consumed), refuse);
      return true;
    },
    ended: () => refuse("closed before the transport header", "connect-failed"),
    timedOut: () => refuse("no transport header in time"),
    lost() {},
  };
  new Peek(done.socket, deps.runtime, deps.config.detectTimeoutMs, decider);
}

function dispatch(
  deps: InboundParts,
  http: InboundHttp,
  accepted: Accepted,
  done: Terminated,
  client: Client,
  header: TransportHeader,
  rest: Buffer,
  refuse: (why: string, failure?: ConnectionFailure) => void,
): void {
  const { protocol } = header;
  const session = protocol === undefined ? "" : protocol === "http2" ? "http/2" : "http/1";
  deps.meters.transportHeader(session, header.port, header.name, client.id);
  // A name asks us to be a gateway for it, which a host is not.
  if (header.name !== undefined) return refuse(`not a gateway for ${header.name}`, "gateway-refused");
  if (header.port === deps.config.port) return refuse("loop: the header names our own port", "loop-detected");
  const originalDst: SocketAddress = { ip: accepted.originalDst.ip, port: header.port };
  const handle = deps.discovery.inbound(header.port);
  const { socket, client: originalClient } = accepted;
  const arrival: Arrival = { socket, originalClient, originalDst, road: "direct", handle };
  whenKnown(handle, done.socket, () => {
    // Absent means opaque, whatever the port's policy would detect (inbound.md §9.2).
    if (protocol === undefined) forwardOpaque(deps, arrival, done.socket, client, rest);
    else http.serve(protocol === "http2" ? "2" : "1", arrival, done.socket, client, rest);
  });
}
