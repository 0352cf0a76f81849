import {
  Client,
  credentials,
  type handleBidiStreamingCall,
  type handleUnaryCall,
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Hops } from "../../support/hops.ts";

const same = (bytes: Buffer) => bytes;
const method = (name: string, stream: boolean): MethodDefinition<Buffer, Buffer> => ({
  path: `/test.Echo/${name}`,
  requestStream: stream,
  responseStream: stream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});
const METHODS = { unary: method("Unary", false), fails: method("Fails", false), chat: method("Chat", true) };

describe("gRPC over the mesh", () => {
  const server = new Server({ "grpc.max_receive_message_length": 8_000_000 });
  let hops: Hops;
  let client: Client;

  beforeAll(async () => {
    const unary: handleUnaryCall<Buffer, Buffer> = (call, done) => {
      const trailers = new Metadata();
      trailers.set("x-trailer", "t");
      done(null, call.request, trailers);
    };
    const fails: handleUnaryCall<Buffer, Buffer> = (_call, done) =>
      done({ code: status.RESOURCE_EXHAUSTED, details: "tired, 100 % so" } as ServiceError);
    const chat: handleBidiStreamingCall<Buffer, Buffer> = (call) => {
      call.on("data", (message: Buffer) => call.write(message));
      call.on("end", () => call.end());
    };
    server.addService(METHODS, { unary, fails, chat });
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    hops = await Hops.start({ appPort: port });
    client = new Client(`127.0.0.1:${hops.port}`, credentials.createInsecure(), {
      "grpc.max_receive_message_length": 8_000_000,
    });
  });
  afterAll(() => {
    client.close();
    hops.close();
    server.forceShutdown();
  });

  const call = (which: keyof typeof METHODS, message: Buffer, deadlineMs = 5_000) =>
    new Promise<Buffer | ServiceError>((resolve) => {
      const { path } = METHODS[which];
      client.makeUnaryRequest(
        path,
        same,
        same,
        message,
        new Metadata(),
        { deadline: Date.now() + deadlineMs },
        (error, answer) => resolve(error ?? (answer as Buffer)),
      );
    });

  test("unary, small and 1 MiB", async () => {
    expect(await call("unary", Buffer.from("hello"))).toEqual(Buffer.from("hello"));
    const big = Buffer.alloc(1024 * 1024, "q");
    expect(((await call("unary", big)) as Buffer).equals(big)).toBe(true);
  });

  test("a status in trailers keeps code and message", async () => {
    const error = (await call("fails", Buffer.alloc(1))) as ServiceError;
    expect(error.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(error.details).toBe("tired, 100 % so");
  });

  test("bidirectional streaming, message by message", async () => {
    const stream = client.makeBidiStreamRequest(METHODS.chat.path, same, same);
    const seen: number[] = [];
    await new Promise<void>((resolve, reject) => {
      stream.on("error", reject);
      stream.on("end", resolve);
      stream.on("data", (message: Buffer) => {
        seen.push(message.length);
        if (seen.length < 100) stream.write(Buffer.alloc(seen.length + 1));
        else stream.end();
      });
      stream.write(Buffer.alloc(1));
    });
    expect(seen).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  });

  test("200 calls at once", async () => {
    const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => call("unary", Buffer.from(String(i)))));
    expect(answers.map(String)).toEqual(Array.from({ length: 200 }, (_, i) => String(i)));
  });
});

describe("a gRPC server that is not there", () => {
  test("is UNAVAILABLE or past its deadline to the client, as a gRPC answer", async () => {
    const hops = await Hops.start({ appPort: 1 });
    const client = new Client(`127.0.0.1:${hops.port}`, credentials.createInsecure());
    const error = await new Promise<ServiceError | null>((resolve) => {
      client.makeUnaryRequest("/test.Echo/Unary", same, same, Buffer.alloc(1), new Metadata(), {}, (e) => resolve(e));
    });
    expect([status.UNAVAILABLE, status.DEADLINE_EXCEEDED]).toContain(error?.code);
    client.close();
    hops.close();
  });
});
