import type { GrpcClient, GrpcStream } from "../../src/proxy/discovery/index.ts";

type Callbacks = {
  data: ((message: unknown) => void)[];
  error: ((error: Error & { code?: number; details?: string }) => void)[];
  end: (() => void)[];
};

/** One server stream as the test's server sees it. Messages make the trip through bytes. */
export class FakeCall {
  readonly path: string;
  /** Decoded again from what the client serialized, by the test. */
  readonly requestBytes: Buffer;
  readonly #deserialize: (bytes: Buffer) => unknown;
  readonly #callbacks: Callbacks = { data: [], error: [], end: [] };
  cancelled = false;

  constructor(path: string, requestBytes: Buffer, deserialize: (bytes: Buffer) => unknown) {
    this.path = path;
    this.requestBytes = requestBytes;
    this.#deserialize = deserialize;
  }

  on<K extends keyof Callbacks>(event: K, callback: Callbacks[K][number]): void {
    (this.#callbacks[event] as unknown[]).push(callback);
  }

  cancel(): void {
    if (this.cancelled) return;
    this.cancelled = true;
    // As grpc-js does it: a cancelled call reports an error to whoever still listens.
    this.error(1, "cancelled");
  }

  send(bytes: Buffer): void {
    const message = this.#deserialize(bytes);
    for (const callback of this.#callbacks.data) callback(message);
  }

  error(code: number, details: string): void {
    for (const callback of this.#callbacks.error) callback(Object.assign(new Error(details), { code, details }));
  }

  end(): void {
    for (const callback of this.#callbacks.end) callback();
  }
}

/** A gRPC client without a network: every call is kept for the test to answer. */
export class FakeGrpcClient implements GrpcClient {
  readonly calls: FakeCall[] = [];

  makeServerStreamRequest<Request, Response>(
    path: string,
    serialize: (request: Request) => Buffer,
    deserialize: (bytes: Buffer) => Response,
    request: Request,
  ): GrpcStream<Response> {
    const call = new FakeCall(path, serialize(request), deserialize);
    this.calls.push(call);
    return call as unknown as GrpcStream<Response>;
  }

  /** Calls that nobody cancelled, of one method. */
  open(method: string): FakeCall[] {
    return this.calls.filter((call) => !call.cancelled && call.path.endsWith(`/${method}`));
  }

  /** The last call of a method, which must exist. */
  last(method: string): FakeCall {
    const call = this.calls.findLast(({ path }) => path.endsWith(`/${method}`));
    if (call === undefined) throw new Error(`nobody called ${method}`);
    return call;
  }
}
