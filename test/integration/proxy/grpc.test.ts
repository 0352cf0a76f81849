import {
  Client,
  credentials,
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
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
import { until } from "../../support/until.ts";

const same = (bytes: Buffer) => bytes;
const method = (
  name: string,
  requestStream: boolean,
  responseStream = requestStream,
): MethodDefinition<Buffer, Buffer> => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});
const METHODS = {
  unary: method("Unary", false),
  fails: method("Fails", false),
  chat: method("Chat", true),
  gather: method("Gather", true, false),
  count: method("Count", false, true),
  waits: method("Waits", false),
};

describe("gRPC over the mesh", () => {
  const server = new Server({ "grpc.max_receive_message_length": 8_000_000 });
  let hops: Hops;
  let client: Client;
  /** Calls that wait, and those of them that the server knows to be given up. */
  let waiting = 0;
  let cancelled = 0;

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
    const gather: handleClientStreamingCall<Buffer, Buffer> = (call, done) => {
      let bytes = 0;
      call.on("data", (message: Buffer) => {
        bytes += message.length;
      });
      call.on("end", () => done(null, Buffer.from(String(bytes))));
    };
    const count: handleServerStreamingCall<Buffer, Buffer> = (call) => {
      for (let i = 0; i < Number(call.request); i++) call.write(Buffer.alloc(1_000, i));
      call.end();
    };
    const waits: handleUnaryCall<Buffer, Buffer> = (call) => {
      waiting++;
      call.on("cancelled", () => cancelled++);
    };
    server.addService(METHODS, { unary, fails, chat, gather, count, waits });
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

  test("a client's and a server's stream", async () => {
    const gathered = await new Promise<Buffer>((resolve, reject) => {
      const stream = client.makeClientStreamRequest(METHODS.gather.path, same, same, (error, answer) =>
        error ? reject(error) : resolve(answer as Buffer),
      );
      for (let i = 0; i < 300; i++) stream.write(Buffer.alloc(1_000));
      stream.end();
    });
    expect(gathered.toString()).toBe("300000");
    const counted: number[] = [];
    await new Promise<void>((resolve, reject) => {
      const stream = client.makeServerStreamRequest(METHODS.count.path, same, same, Buffer.from("300"));
      stream.on("data", (message: Buffer) => counted.push(message[0] as number));
      stream.on("error", reject);
      stream.on("end", resolve);
    });
    expect(counted).toEqual(Array.from({ length: 300 }, (_, i) => i & 0xff));
  });

  test("a deadline and a cancellation reach the server", async () => {
    const late = (await call("waits", Buffer.alloc(1), 300)) as ServiceError;
    expect(late.code).toBe(status.DEADLINE_EXCEEDED);
    await until(() => waiting === 1 && cancelled === 1, "the server knows");
    const given = client.makeUnaryRequest(METHODS.waits.path, same, same, Buffer.alloc(1), () => {});
    await until(() => waiting === 2, "it is under way");
    const since = performance.now();
    given.cancel();
    await until(() => cancelled === 2, "the server knows");
    expect(performance.now() - since).toBeLessThan(1_000);
  });

  test("200 calls at once", async () => {
    const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => call("unary", Buffer.from(String(i)))));
    expect(answers.map(String)).toEqual(Array.from({ length: 200 }, (_, i) => String(i)));
  });
});

test("a server that ends its connections by age loses no call", async () => {
  const server = new Server({ "grpc.max_connection_age_ms": 60, "grpc.max_connection_age_grace_ms": 5_000 });
  const unary: handleUnaryCall<Buffer, Buffer> = (call, done) => void setTimeout(() => done(null, call.request), 10);
  server.addService({ unary: METHODS.unary }, { unary });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  const hops = await Hops.start({ appPort: port });
  const client = new Client(`127.0.0.1:${hops.port}`, credentials.createInsecure());
  const failed: string[] = [];
  const one = (i: number) =>
    new Promise<void>((resolve) => {
      const deadline = Date.now() + 20_000;
      client.makeUnaryRequest(
        METHODS.unary.path,
        same,
        same,
        Buffer.from(String(i)),
        new Metadata(),
        { deadline },
        (error) => {
          if (error) failed.push(error.message);
          resolve();
        },
      );
    });
  const calls: Promise<void>[] = [];
  for (let i = 0; i < 400; i++) {
    calls.push(one(i));
    if (i % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Promise.all(calls);
  client.close();
  hops.close();
  server.forceShutdown();
  expect(failed).toEqual([]);
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
