import type { Socket } from "node:net";
import { abort } from "./abort.ts";

/**
 * Copies bytes both ways between two sockets until both directions have ended. A FIN on one side becomes a FIN on the
 * other and the opposite direction goes on; a reset on one side resets the other.
 *
 * Both sockets must allow half-open connections, and nobody else may listen on them.
 * @param unreadA - Bytes already read from `a`, sent to `b` first; likewise `unreadB`.
 * @param onClosed - Called once, when both sockets are closed.
 */
export function relay(
  a: Socket,
  b: Socket,
  unreadA: Buffer | undefined,
  unreadB: Buffer | undefined,
  onClosed: () => void,
): void {
  let open = 2;
  const closed = () => {
    if (--open === 0) onClosed();
  };
  forward(a, b, unreadA, closed);
  forward(b, a, unreadB, closed);
  if (!a.destroyed) a.resume();
  if (!b.destroyed) b.resume();
}

function forward(from: Socket, to: Socket, unread: Buffer | undefined, closed: () => void): void {
  let ended = false;
  const finish = () => {
    ended = true;
    to.end();
  };
  from.on("data", (chunk: Buffer) => {
    if (!to.write(chunk)) from.pause();
  });
  to.on("drain", () => from.resume());
  from.on("end", finish);
  let broken = false;
  from.on("error", () => {
    broken = true;
  });
  const gone = () => {
    // Without a FIN it was a reset: passed on as one, so that a cut stream never looks complete. After a FIN, what is on
    // its way still arrives; but nobody is left to take the other direction.
    if (broken || !ended) abort(to);
    else to.destroySoon();
    closed();
  };
  from.once("close", gone);
  if (unread !== undefined && unread.length > 0) to.write(unread);
  // The peer may have sent its FIN, or gone, before we listened.
  if (from.readableEnded) finish();
  if (from.destroyed) {
    from.off("close", gone);
    queueMicrotask(gone);
  }
}
