import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type ServerWritableStream, status } from "@grpc/grpc-js";
import { CallFailure } from "./failure.ts";
import { type ClusterStore, KINDS } from "./store.ts";

/** How many messages a client may leave unread before its stream is ended. */
const QUEUE_CAPACITY = 100;

const WATCHED = new Set(Object.values(KINDS).map(({ group, plural }) => `${group}/${plural}`));

/**
 * Serves a stream that asks the same question again after every change of the cluster. Changes of one turn are
 * answered together, so that a bulk write does not become a burst of messages.
 *
 * @param next - The messages to send now, often none. A {@link CallFailure} at the first call is the answer; later it
 *   means that the thing asked about is gone, and ends the stream without an error, as Linkerd does.
 */
export function follow<Message>(
  call: ServerWritableStream<unknown, Message>,
  store: ClusterStore,
  next: () => readonly Message[],
): void {
  let scheduled = false;
  let isOver = false;
  const stop = (): void => {
    isOver = true;
    unwatch();
  };
  const send = (): void => {
    for (const message of next()) call.write(message);
    if (call.writableLength > QUEUE_CAPACITY) {
      stop();
      call.end();
    }
  };
  const unwatch = store.watch(({ resourceType: { group, plural } }) => {
    if (scheduled || isOver || !WATCHED.has(`${group}/${plural}`)) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (isOver) return;
      try {
        send();
      } catch (error) {
        stop();
        if (error instanceof CallFailure) call.end();
        else fail(call, error);
      }
    });
  });
  call.once("cancelled", stop);
  call.once("close", stop);
  try {
    send();
  } catch (error) {
    stop();
    fail(call, error);
  }
}

/** Makes the newest value a message only if there is one and it differs from the last one on the wire. */
export function ifChanged<D extends DescMessage>(
  schema: D,
  read: () => MessageInitShape<D> | undefined,
): () => readonly MessageInitShape<D>[] {
  let last: Uint8Array | undefined;
  return () => {
    const message = read();
    if (message === undefined) return [];
    const bytes = toBinary(schema, create(schema, message));
    if (last !== undefined && Buffer.compare(last, bytes) === 0) return [];
    last = bytes;
    return [message];
  };
}

/** What grpc-js wants to be told of a failed call. Anything unexpected is code Unknown, as a Go server has it. */
export function grpcError(error: unknown): { readonly code: status; readonly details: string } {
  if (error instanceof CallFailure) return { code: error.code, details: error.message };
  return { code: status.UNKNOWN, details: error instanceof Error ? error.message : String(error) };
}

function fail(call: ServerWritableStream<unknown, unknown>, error: unknown): void {
  call.emit("error", grpcError(error));
}
