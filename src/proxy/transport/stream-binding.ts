/** What `handle.writeBuffer` keeps a write in while the kernel has not taken all of it. */
export interface WriteRequest {
  oncomplete: (this: WriteRequest, status: number) => void;
  /** Keeps the memory alive until then. */
  buffer: Buffer | undefined;
}

/** The part of Node's binding to libuv's streams that is used here. */
export interface StreamBinding {
  /** Results of the last call, at the positions below. */
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
  readonly WriteWrap: new () => WriteRequest;
}

type BindingOf = (name: string) => Record<string, unknown> | undefined;

const { binding } = process as unknown as { binding?: BindingOf };

/** Undefined where this Node has none: then streams are used as everybody does. The runtime comes with the binary, so what is found does not change by itself. */
export const streamBinding: StreamBinding | undefined = complete(binding?.call(process, "stream_wrap"));

function complete(found: Record<string, unknown> | undefined): StreamBinding | undefined {
  const numbers = [found?.["kReadBytesOrError"], found?.["kLastWriteWasAsync"]];
  const isThere = found?.["streamBaseState"] instanceof Int32Array && typeof found["WriteWrap"] === "function";
  return isThere && numbers.every((at) => typeof at === "number") ? (found as unknown as StreamBinding) : undefined;
}

const tcp = binding?.call(process, "tcp_wrap")?.["TCP"];

/** Whether a socket's handle is the kernel's TCP, not TLS on top of it. */
export function isTcp(handle: unknown): boolean {
  return typeof tcp === "function" && handle instanceof tcp;
}
