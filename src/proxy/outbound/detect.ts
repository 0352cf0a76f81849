import type { Client } from "../policy/index.ts";
import type { Accepted } from "../transport/listener.ts";
import { Peek, type PeekDecider } from "../transport/peekable.ts";
import { detectHttp } from "../wire/http1/index.ts";
import { decodeClientHello } from "../wire/tls/index.ts";
import type { OutboundDeps } from "./deps.ts";
import type { Destination } from "./destination.ts";

/** Chooses how a connection is carried, by the destination's policy and, where it leaves that open, by the first bytes. */
export function detect(deps: OutboundDeps, destination: Destination, accepted: Accepted, client: Client): void {
  const { socket } = accepted;
  const kind = destination.policy?.kind ?? "opaque";
  switch (kind) {
    case "opaque":
      // Dialled at once: the server may be the one to speak first.
      return destination.serveOpaque(socket, undefined, undefined);
    case "http1":
      return destination.serveHttp("1", socket, client, accepted.client, undefined);
    case "http2":
    case "grpc":
      return destination.serveHttp("2", socket, client, accepted.client, undefined);
    case "tls":
      return void new Peek(socket, deps.runtime, deps.config.detectTimeoutMs, sniDecider(destination, accepted));
    case "detect":
      return void new Peek(
        socket,
        deps.runtime,
        deps.config.detectTimeoutMs,
        httpDecider(destination, accepted, client),
      );
    default:
      kind satisfies never;
  }
}

function httpDecider(destination: Destination, accepted: Accepted, client: Client): PeekDecider {
  const { socket } = accepted;
  return {
    look(bytes) {
      const verdict = detectHttp(bytes);
      if (verdict === "more") return false;
      if (verdict === "http1") destination.serveHttp("1", socket, client, accepted.client, bytes);
      else if (verdict === "http2") destination.serveHttp("2", socket, client, accepted.client, bytes);
      else destination.serveOpaque(socket, bytes, undefined);
      return true;
    },
    ended(bytes) {
      if (bytes.length > 0) return destination.serveOpaque(socket, bytes, undefined);
      // Nothing said, nothing to dial for.
      socket.destroy();
      destination.leave();
    },
    // A silent client may be waiting for the server: after the timeout it gets one, as from Linkerd.
    timedOut(bytes) {
      destination.serveOpaque(socket, bytes, undefined);
    },
    lost() {
      destination.leave();
    },
  };
}

function sniDecider(destination: Destination, accepted: Accepted): PeekDecider {
  const { socket } = accepted;
  const refuse = () => {
    socket.destroy();
    destination.leave();
  };
  return {
    look(bytes) {
      const hello = decodeClientHello(bytes);
      if (hello.kind === "more") return false;
      if (hello.kind === "done" && hello.value.serverName !== undefined)
        destination.serveOpaque(socket, bytes, hello.value.serverName);
      else refuse();
      return true;
    },
    ended: refuse,
    timedOut: refuse,
    lost() {
      destination.leave();
    },
  };
}
