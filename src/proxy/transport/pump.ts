import type { Millis } from "../core/clock.ts";
import type { Tunnel } from "../stack/exchange.ts";
import { abort } from "./abort.ts";
import { errnoOf } from "./errno.ts";
import { RelayWriter } from "./relay-writer.ts";
import type { Runtime } from "./runtime.ts";
import { SocketReader } from "./socket-reader.ts";
import type { Timed } from "./timer-wheel.ts";

// Half of a connection is over and nothing moves in the other one. Envoy gives any idle TCP connection an hour.
const HALF_CLOSED_IDLE_MS = 3_600_000;

/**
 * Copies bytes both ways between two sockets until both directions have ended. A FIN on one side becomes a FIN on the
 * other and the opposite direction goes on; a reset on one side resets the other. Where nothing moves for
 * {@link Runtime.relayIdleMs} both are reset.
 *
 * Both sockets must allow half-open connections, and nobody else may listen on them.
 * What was already read from one end, and counted, is sent to the other first.
 * @param onClosed - Called once, when both sockets are closed.
 */
export function relay(a: Tunnel, b: Tunnel, runtime: Runtime, onClosed: () => void): void {
  const idle = new RelayIdle(a, b, runtime);
  let open = 2;
  const closed = () => {
    if (--open > 0) return;
    runtime.wheel.disarm(idle);
    onClosed();
  };
  forward(a, b, idle, closed);
  forward(b, a, idle, closed);
  runtime.wheel.arm(idle);
  if (!a.socket.destroyed) a.socket.resume();
  if (!b.socket.destroyed) b.socket.resume();
}

/** Gives up a relay in which nothing moves: peers that are gone answer no keep-alive, but some are only forgotten. */
class RelayIdle implements Timed {
  wheelTick: number | undefined;
  readonly #a: Tunnel;
  readonly #b: Tunnel;
  readonly #runtime: Runtime;
  #movedAt: Millis;
  #halfClosed = false;

  constructor(a: Tunnel, b: Tunnel, runtime: Runtime) {
    this.#a = a;
    this.#b = b;
    this.#runtime = runtime;
    this.#movedAt = runtime.clock.now();
  }

  moved(): void {
    this.#movedAt = this.#runtime.clock.now();
  }

  /** One direction has ended. */
  halfClosed(): void {
    this.#halfClosed = true;
    this.moved();
    this.#runtime.wheel.arm(this);
  }

  timeoutAt(): Millis | undefined {
    const { relayIdleMs } = this.#runtime;
    if (!this.#halfClosed) return relayIdleMs === undefined ? undefined : this.#movedAt + relayIdleMs;
    return this.#movedAt + Math.min(HALF_CLOSED_IDLE_MS, relayIdleMs ?? HALF_CLOSED_IDLE_MS);
  }

  expire(_now: Millis): void {
    abort(this.#a.socket);
    abort(this.#b.socket);
  }
}

function forward(source: Tunnel, sink: Tunnel, idle: RelayIdle, closed: () => void): void {
  const { socket: from, unread, meter } = source;
  const { socket: to, meter: written } = sink;
  let ended = false;
  const finish = () => {
    // Its close resets the other end.
    if (reader instanceof SocketReader && reader.wasCut) return void from.destroy();
    ended = true;
    idle.halfClosed();
    writer.end();
  };
  const writer = new RelayWriter(to);
  const take = (chunk: Buffer) => {
    meter.read(chunk.length);
    written.wrote(chunk.length);
    idle.moved();
    if (!writer.write(chunk)) reader.pause();
  };
  // What came while the connection was looked at waits in its stream, and goes first.
  const waiting: Buffer | null = from.readableLength > 0 ? from.read() : null;
  const reader = SocketReader.attach(from, take, true, "free") ?? from.on("data", take);
  to.on("drain", () => reader.resume());
  from.on("end", finish);
  let broken = false;
  let errno = "";
  from.on("error", (error) => {
    broken = true;
    errno = errnoOf(error);
  });
  const gone = () => {
    // Without a FIN it was a reset: passed on as one, so that a cut stream never looks complete. After a FIN, what is on
    // its way still arrives; but nobody is left to take the other direction.
    if (broken || !ended) abort(to);
    else to.destroySoon();
    meter.closed(errno);
    closed();
  };
  from.once("close", gone);
  if (unread !== undefined && unread.length > 0) {
    written.wrote(unread.length);
    writer.write(unread);
  }
  if (waiting !== null) take(waiting);
  reader.resume();
  // The peer may have sent its FIN, or gone, before we listened.
  if (from.readableEnded) finish();
  if (from.destroyed) {
    from.off("close", gone);
    queueMicrotask(gone);
  }
}
