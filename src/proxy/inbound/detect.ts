import type { Socket } from "node:net";
import type { Client } from "../policy/index.ts";
import type { Detected } from "../stack/index.ts";
import { Peek, type PeekDecider } from "../transport/peekable.ts";
import type { HandshakeWaiter, Terminated } from "../transport/tls-server.ts";
import { detectHttp } from "../wire/http1/index.ts";
import { decodeClientHello } from "../wire/tls/index.ts";
import type { Arrival } from "./arrival.ts";
import type { InboundParts } from "./deps.ts";
import type { InboundHttp } from "./http.ts";
import { forwardOpaque } from "./opaque.ts";

/** Looks for our own name in a ClientHello: only that is mesh TLS, and it commits to terminating it. */
export function detectTls(deps: InboundParts, http: InboundHttp, arrival: Arrival, client: Client): void {
  const decider: PeekDecider = {
    look(bytes) {
      const hello = decodeClientHello(bytes);
      if (hello.kind === "more") return false;
      const { identity, terminator } = deps.mesh;
      const ours =
        hello.kind === "done" &&
        terminator !== undefined &&
        hello.value.serverName === identity?.serverName.toLowerCase();
      if (!ours) {
        const sni = hello.kind === "done" ? hello.value.serverName : undefined;
        const passed: Arrival = sni === undefined ? arrival : { ...arrival, noTls: { kind: "foreign", sni } };
        detectProtocol(deps, http, passed, arrival.socket, client, bytes);
        return true;
      }
      const waiter: HandshakeWaiter = {
        terminated: (done: Terminated) => {
          const tls = done.identity === undefined ? "anonymous" : "identity";
          const proven: Client = { ip: client.ip, tls, id: done.identity, otherNames: done.otherNames };
          detectProtocol(deps, http, arrival, done.socket, proven, undefined);
        },
        refused: () => deps.meters.failed(arrival.originalDst, "connect-failed"),
      };
      terminator.terminate(arrival.socket, bytes, false, waiter);
      return true;
    },
    ended(bytes) {
      detectProtocol(deps, http, arrival, arrival.socket, client, bytes);
    },
    // A client that waits for the server to speak belongs on an opaque port; here it is cut, as by Linkerd.
    timedOut() {
      deps.meters.failed(arrival.originalDst, "tls-detect-timeout");
      arrival.socket.destroy();
    },
    lost() {},
  };
  new Peek(arrival.socket, deps.runtime, deps.config.detectTimeoutMs, decider);
}

/** Chooses HTTP/1, HTTP/2 or opaque, by the port's policy and, where it leaves that open, by the first bytes. */
export function detectProtocol(
  deps: InboundParts,
  http: InboundHttp,
  arrival: Arrival,
  socket: Socket,
  client: Client,
  first: Buffer | undefined,
): void {
  const { protocol } = arrival.handle.current;
  switch (protocol.kind) {
    case "opaque":
    case "tls":
      return forwardOpaque(deps, arrival, socket, client, first);
    case "http2":
    case "grpc":
      return http.serve("2", arrival, socket, client, first);
    case "http1":
      // Meshed peers may carry HTTP/1 over HTTP/2; in clear text only HTTP/1 can come.
      if (client.tls === "none" && !startsLikeTls(first)) return http.serve("1", arrival, socket, client, first);
      return detectHttpVersion(deps, http, arrival, socket, client, first, deps.config.detectTimeoutMs, true);
    case "detect":
      return detectHttpVersion(deps, http, arrival, socket, client, first, protocol.timeoutMs, false);
    default:
      protocol satisfies never;
  }
}

function startsLikeTls(first: Buffer | undefined): boolean {
  return first !== undefined && first[0] === 0x16;
}

function detectHttpVersion(
  deps: InboundParts,
  http: InboundHttp,
  arrival: Arrival,
  socket: Socket,
  client: Client,
  first: Buffer | undefined,
  timeoutMs: number,
  onlyHttp: boolean,
): void {
  const { clock } = deps.runtime;
  const meter = deps.meters.detection(arrival.handle.current.ref, arrival.originalDst.port);
  const startedAt = clock.now();
  const detected = (result: Detected) => meter.ended(result, (clock.now() - startedAt) / 1_000);
  const decider: PeekDecider = {
    look(bytes) {
      const verdict = detectHttp(bytes);
      if (verdict === "more") return false;
      detected(verdict === "http1" ? "http/1" : verdict === "http2" ? "http/2" : "not_http");
      if (verdict === "http1") http.serve("1", arrival, socket, client, bytes);
      else if (verdict === "http2") http.serve("2", arrival, socket, client, bytes);
      else forwardOpaque(deps, arrival, socket, client, bytes);
      return true;
    },
    ended(bytes) {
      detected("not_http");
      // Nothing said, nothing to forward.
      if (bytes.length === 0) socket.destroy();
      else forwardOpaque(deps, arrival, socket, client, bytes);
    },
    timedOut(bytes) {
      detected("read_timeout");
      if (onlyHttp) http.serve("1", arrival, socket, client, bytes);
      else forwardOpaque(deps, arrival, socket, client, bytes);
    },
    lost: () => detected("error"),
  };
  new Peek(socket, deps.runtime, timeoutMs, decider, first);
}
