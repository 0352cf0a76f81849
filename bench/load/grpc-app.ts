/** A gRPC server with one unary method: answers every call with the same message and its status in trailers. */
import { createServer, type ServerHttp2Stream } from "node:http2";

const { port } = JSON.parse(process.argv[2] ?? "{}") as { readonly port: number };
// Not compressed, twelve bytes: a string in field 1.
const MESSAGE = Buffer.concat([Buffer.from([0, 0, 0, 0, 12, 0x0a, 10]), Buffer.from("hello mesh")]);

const server = createServer();
server.on("stream", (stream: ServerHttp2Stream) => {
  stream.on("error", () => {});
  stream.resume();
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(MESSAGE);
});
server.on("sessionError", () => {});
server.listen({ host: "127.0.0.1", port });
