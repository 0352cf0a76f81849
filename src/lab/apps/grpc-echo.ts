import {
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import type { App, AppOptions } from "./app.ts";

// Messages are bytes to this server: it needs no schema to send them back.
const bytes = (value: Buffer): Buffer => value;

function method(path: string, streams: boolean): MethodDefinition<Buffer, Buffer> {
  return {
    path,
    requestStream: streams,
    responseStream: streams,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  };
}

/** `lab.Echo`: `Say` returns its message, `Chat` every message of a stream, `Fail` the status UNAVAILABLE. */
export const ECHO = {
  Say: method("/lab.Echo/Say", false),
  Chat: method("/lab.Echo/Chat", true),
  Fail: method("/lab.Echo/Fail", false),
} as const;

/** A gRPC server without TLS. The trailer `client` carries the mesh identity of the client, if there is one. */
export async function startGrpcEcho(options: AppOptions): Promise<App> {
  const server = new Server();
  server.addService(ECHO, {
    Say: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
      const [client] = call.metadata.get("l5d-client-id");
      const trailers = call.metadata.clone();
      for (const key of Object.keys(trailers.getMap())) trailers.remove(key);
      if (client !== undefined) trailers.set("client", client);
      done(null, call.request, trailers);
    },
    Chat: (call: ServerDuplexStream<Buffer, Buffer>) => {
      call.on("data", (message: Buffer) => call.write(message));
      call.on("end", () => call.end());
    },
    Fail: (_call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
      done({ code: status.UNAVAILABLE, details: "as asked" });
    },
  });
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:${options.port}`, ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  return {
    port,
    close: async () => server.forceShutdown(),
  };
}
