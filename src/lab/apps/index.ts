/**
 * Sample applications for demos and tests: HTTP that reports what it saw, TCP that speaks first, gRPC that echoes.
 * None of them knows of a mesh. Imports: node:http, node:net, grpc-js. Start reading in `http-echo.ts`.
 */
export type { App, AppOptions } from "./app.ts";
export { ECHO, startGrpcEcho } from "./grpc-echo.ts";
export { startHttpEcho } from "./http-echo.ts";
export { startTcpGreeter } from "./tcp-greeter.ts";
