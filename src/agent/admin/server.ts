import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import type { AgentStatus } from "../status.ts";

/** What the admin server shows. */
export interface AdminSource {
  ready(): boolean;
  metrics(): string;
  status(): AgentStatus;
}

// A page that a browser was tricked into asking for must not answer: only names of this machine (DNS rebinding).
const LOCAL_HOST = /^(?:127\.\d+\.\d+\.\d+|localhost|\[::1\])(?::\d+)?$/;

// RFC 9110 §12.5.3: a weight of 0 means that it must not be used.
const GZIP = /(?:^|,)\s*(?:x-)?gzip\s*(?:$|,|;(?!\s*q=0(?:\.0*)?\s*(?:$|,)))/i;

/** Metrics, liveness and readiness over HTTP, on loopback. Reads only. */
export function createAdminServer(source: AdminSource): Server {
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 8_192 },
    (request, response) => {
      answer(source, request, response);
    },
  );
  server.maxConnections = 64;
  return server;
}

function answer(source: AdminSource, request: IncomingMessage, response: ServerResponse): void {
  const path = (request.url ?? "/").split("?", 1)[0];
  if (request.method !== "GET" && request.method !== "HEAD")
    return send(request, response, 405, "method not allowed\n");
  if (!LOCAL_HOST.test(request.headers.host ?? "")) return send(request, response, 403, "not a name of this host\n");
  switch (path) {
    case "/live":
      return send(request, response, 200, "live\n");
    case "/ready":
      return source.ready() ? send(request, response, 200, "ready\n") : send(request, response, 503, "not ready\n");
    case "/metrics":
      return send(request, response, 200, source.metrics(), "text/plain; version=0.0.4");
    case "/status.json":
      return send(request, response, 200, `${JSON.stringify(source.status())}\n`, "application/json");
    default:
      return send(request, response, 404, "not found\n");
  }
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  body: string,
  type = "text/plain",
): void {
  let bytes = Buffer.from(body);
  response.setHeader("content-type", type);
  if (bytes.length > 1_024 && GZIP.test(String(request.headers["accept-encoding"] ?? ""))) {
    bytes = gzipSync(bytes);
    response.setHeader("content-encoding", "gzip");
  }
  response.writeHead(status, { "content-length": bytes.length });
  response.end(request.method === "HEAD" ? undefined : bytes);
}
