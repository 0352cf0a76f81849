import { ServerInterceptingCall, type ServerInterceptor, ServerListenerBuilder } from "@grpc/grpc-js";
import { unmapIp } from "../../proxy/core/address.ts";

/**
 * Notices calls that end before any message of theirs reaches a handler: larger than allowed, unreadable, or broken
 * off. grpc-js answers those itself, and nobody would hear of them.
 *
 * @param ended - Called with the path of the method and the address of the caller.
 */
export function unheardCalls(ended: (path: string, address: string) => void): ServerInterceptor {
  return (method, call) => {
    let heard = false;
    const listener = new ServerListenerBuilder()
      .withOnReceiveMessage((message, next) => {
        heard = true;
        next(message);
      })
      .withOnCancel(() => {
        if (!heard) ended(method.path, unmapIp(call.getConnectionInfo().remoteAddress ?? ""));
      })
      .build();
    return new ServerInterceptingCall(call, { start: (next) => next(listener) });
  };
}
