import type { Client } from "../policy/index.ts";
import type { Detected } from "../stack/index.ts";
import type { Accepted } from "../transport/listener.ts";
import { Peek, type PeekDecider } from "../transport/peekable.ts";
import { detectHttp } from "../wire/http1/index.ts";
import { decodeClientHello } from "../wire/tls/index.ts";
import type { OutboundDeps } from "./deps.ts";
import type { Destination } from "./destination.ts";

/** Chooses how a connection is carried, by the destination's policy and, where it leaves that open, by the first bytes. */
export function detect(deps: OutboundDeps, destination: Destination, accepted: Accepted, client: Client): void {
  const { socket } = accepted;
  const { policy } = destination;
  const kind = policy?.kind ?? "opaque";
  if (policy !== undefined) deps.meters.protocol(policy);
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
      return void new Peek(socket, deps.runtime, deps.config.detectTimeoutMs, sniDecider(deps, destination, accepted));
    case "detect":
      return void new Peek(
        socket,
        deps.runtime,
        deps.config.detectTimeoutMs,
        httpDecider(deps, destination, accepted, client),
      );
    default:
      kind satisfies never;
  }
}

function httpDecider(deps: OutboundDeps, destination: Destination, accepted: Accepted, client: Client): PeekDecider {
  const { socket } = accepted;
  const { clock } = deps.runtime;
  const parent = destination.policy?.ref;
  const meter = parent && deps.meters.detection(parent);
  const startedAt = clock.now();
  const detected = (result: Detected) => meter?.ended(result, (clock.now() - startedAt) / 1_000);
  return {
    look(bytes) {
      const verdict = detectHttp(bytes);
      if (verdict === "more") return false;
      detected(verdict === "http1" ? "http/1" : verdict === "http2" ? "http/2" : "not_http");
      if (verdict === "http1") destination.serveHttp("1", socket, client, accepted.client, bytes);
      else if (verdict === "http2") destination.serveHttp("2", socket, client, accepted.client, bytes);
      else destination.serveOpaque(socket, bytes, undefined);
      return true;
    },
    ended(bytes) {
      detected("not_http");
      if (bytes.length > 0) return destination.serveOpaque(socket, bytes, undefined);
      // Nothing said, nothing to dial for.
      socket.destroy();
      destination.leave();
    },
    // A silent client may be waiting for the server: after the timeout it gets one, as from Linkerd.
    timedOut(bytes) {
      detected("read_timeout");
      destination.serveOpaque(socket, bytes, undefined);
    },
    lost() {
      detected("error");
      destination.leave();
    },
  };
}

function sniDecider(deps: OutboundDeps, destination: Destination, accepted: Accepted): PeekDecider {
  const { socket } = accepted;
  const refuse = () => {
    deps.meters.failed(accepted.originalDst, "unexpected");
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
