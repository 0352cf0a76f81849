import type { Socket } from "node:net";
import type { InboundPolicyHandle } from "../discovery/index.ts";

/**
 * Goes on once the main thread has said what is known of a port: its policy, or that nobody has answered yet, and then the
 * default holds. The control plane itself is never waited for (inbound.md §9.3). A port in use is known, and nothing waits.
 *
 * Without this the first connection of each worker to a port, and the first after a while, would be judged by the default
 * policy, with the answer on its way from the other thread.
 *
 * @param socket - Paused, with an `error` listener; if it closes meanwhile, nothing more happens.
 */
export function whenKnown(handle: InboundPolicyHandle, socket: Socket, then: () => void): void {
  if (handle.state !== "pending") return then();
  const abandoned = () => handle.cancel(waiter);
  const waiter = {
    ready() {
      socket.off("close", abandoned);
      if (!socket.destroyed) then();
    },
  };
  socket.once("close", abandoned);
  handle.wait(waiter);
}
