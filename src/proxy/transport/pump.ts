import type { Tunnel } from "../stack/exchange.ts";
import { abort } from "./abort.ts";
import { errnoOf } from "./errno.ts";

/**
 * Copies bytes both ways between two sockets until both directions have ended. A FIN on one side becomes a FIN on the
 * other and the opposite direction goes on; a reset on one side resets the other.
 *
 * Both sockets must allow half-open connections, and nobody else may listen on them.
 * What was already read from one end, and counted, is sent to the other first.
 * @param onClosed - Called once, when both sockets are closed.
 */
export function relay(a: Tunnel, b: Tunnel, onClosed: () => void): void {
  let open = 2;
  const closed = () => {
    if (--open === 0) onClosed();
  };
  forward(a, b, closed);
  forward(b, a, closed);
  if (!a.socket.destroyed) a.socket.resume();
  if (!b.socket.destroyed) b.socket.resume();
}

function forward(source: Tunnel, sink: Tunnel, closed: () => void): void {
  const { socket: from, unread, meter } = source;
  const { socket: to, meter: written } = sink;
  let ended = false;
  const finish = () => {
    ended = true;
    to.end();
  };
  from.on("data", (chunk: Buffer) => {
    meter.read(chunk.length);
    written.wrote(chunk.length);
    if (!to.write(chunk)) from.pause();
  });
  to.on("drain", () => from.resume());
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
    to.write(unread);
  }
  // The peer may have sent its FIN, or gone, before we listened.
  if (from.readableEnded) finish();
  if (from.destroyed) {
    from.off("close", gone);
    queueMicrotask(gone);
  }
}
