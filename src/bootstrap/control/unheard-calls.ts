import { ServerInterceptingCall, type ServerInterceptor, ServerListenerBuilder, status } from "@grpc/grpc-js";
import { unmapIp } from "../../proxy/core/address.ts";

/** As much of a call as tells who makes it. */
type UnheardCall = Parameters<ServerInterceptor>[1];

/**
 * Notices calls whose end no handler decides: a message that is larger than allowed or unreadable, at the beginning or
 * on a stream that has been open for days, and calls broken off before any message. grpc-js answers the former itself,
 * and a handler hears only that its caller is gone.
 *
 * @param ended - Called once, with the path of the method, the call while it can still be asked who makes it (else the
 *   caller's address), and why.
 */
export function unheardCalls(
  ended: (path: string, caller: UnheardCall | string, why: string) => void,
): ServerInterceptor {
  return (method, call) => {
    let heard = false;
    let over = false;
    const end = (caller: UnheardCall | string, why: string) => {
      if (!over) ended(method.path, caller, why);
      over = true;
    };
    const listener = new ServerListenerBuilder()
      .withOnReceiveMessage((message, next) => {
        heard = true;
        next(message);
      })
      .withOnCancel(() => {
        if (!heard) end(unmapIp(call.getConnectionInfo().remoteAddress ?? ""), "the call was broken off");
      })
      .build();
    // What handlers answer comes through here; what the library answers goes past it, straight to the call.
    let decided = false;
    const send = call.sendStatus.bind(call);
    call.sendStatus = (answer: Parameters<typeof send>[0]) => {
      // A caller's own deadline is nothing to blame it for.
      if (!decided && answer.code !== status.OK && answer.code !== status.DEADLINE_EXCEEDED)
        end(call, answer.details ?? "the request cannot be read");
      send(answer);
    };
    return new ServerInterceptingCall(call, {
      start: (next) => next(listener),
      sendStatus: (answer, next) => {
        decided = true;
        next(answer);
      },
    });
  };
}
