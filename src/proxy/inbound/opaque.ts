import type { Socket } from "node:net";
import { type Client, decideConnection } from "../policy/index.ts";
import type { Peer } from "../stack/index.ts";
import { abort } from "../transport/abort.ts";
import { connect } from "../transport/connect.ts";
import type { Drainable } from "../transport/connections.ts";
import { relay } from "../transport/pump.ts";
import { type Arrival, appAddressOf } from "./arrival.ts";
import type { InboundParts } from "./deps.ts";

/**
 * Carries a connection to the application without parsing it: authorized when it is set up, and again whenever the
 * policy changes while it lives.
 */
export function forwardOpaque(
  deps: InboundParts,
  arrival: Arrival,
  socket: Socket,
  client: Client,
  first: Buffer | undefined,
): void {
  const { handle, originalDst } = arrival;
  const { meters } = deps;
  const peer: Peer = { address: arrival.originalClient, originalDst, client, noTls: arrival.noTls };
  const decision = decideConnection(handle.current, client);
  if (decision.kind === "denied") {
    meters.denied(peer, handle.current.ref);
    const who = client.id ?? arrival.originalClient.ip;
    if (deps.seldom.due(`denied ${who} ${originalDst.port}`, deps.runtime.clock.now()))
      deps.runtime.log.info("denied a connection", {
        client: who,
        port: originalDst.port,
        server: handle.current.ref.name,
      });
    abort(socket);
    return;
  }
  // The admin server speaks HTTP, and not to everybody about everything.
  if (originalDst.port === deps.config.admin?.port) return abort(socket);
  meters.allowed(peer, handle.current.ref, decision.authorization.ref);
  const meter = meters.accepted(peer, handle.current.ref);
  if (first !== undefined) meter.read(first.length);
  let app: Socket | undefined;
  const connection: Drainable = {
    // Opaque streams run on until the drain's limit.
    drain() {},
    destroy() {
      socket.destroy();
      app?.destroy();
    },
  };
  handle.retain();
  const unsubscribe = handle.subscribe({
    changed() {
      if (decideConnection(handle.current, client).kind !== "denied") return;
      meters.terminated(peer, handle.current.ref);
      connection.destroy();
    },
  });
  const done = () => {
    unsubscribe();
    handle.release();
    deps.connections.delete(connection);
  };
  deps.connections.add(connection);
  const abandoned = () => {
    giveUp();
    meter.closed("");
    done();
  };
  socket.once("close", abandoned);
  const giveUp = connect(
    { address: appAddressOf(deps.config, arrival), tls: undefined },
    { timeoutMs: deps.config.connectTimeoutMs },
    {
      connected(opened) {
        app = opened;
        socket.off("close", abandoned);
        relay(
          { socket, unread: first, meter },
          { socket: opened, unread: undefined, meter: meters.dialled() },
          deps.runtime,
          done,
        );
      },
      failed(error) {
        meters.failed(originalDst, error.reason);
        if (deps.seldom.due(`unreachable ${originalDst.port}`, deps.runtime.clock.now()))
          deps.runtime.log.info("application unreachable", { port: originalDst.port, why: error.message });
        // The close listener tidies up. A RST: the client must not wait for the rest of a half-open connection.
        abort(socket);
      },
    },
  );
}
