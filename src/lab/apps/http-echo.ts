import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type App, type AppOptions, listen } from "./app.ts";

const MAX_DELAY_MS = 60_000;

/**
 * An HTTP/1 server that answers with what it saw: method, path, headers (so also `l5d-client-id`, which the proxy adds
 * for a meshed client), the peer's address, and the length of the body. `/healthz` says ok, `/status/503` answers
 * with that status, `/delay/250` waits that many milliseconds.
 */
export async function startHttpEcho(options: AppOptions): Promise<App> {
  const server = createServer((request, response) => void answer(options.name, request, response));
  const port = await listen(server, options);
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = request.url ?? "/";
  let bytes = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) bytes += chunk.length;
  } catch {
    // The client left in the middle of its body; nobody is there to be answered.
    return;
  }
  if (path === "/healthz") {
    response.writeHead(200, { "content-type": "text/plain" }).end("ok\n");
    return;
  }
  const [, verb, number = ""] = /^\/(status|delay)\/(\d{1,5})(?:[/?]|$)/.exec(path) ?? [];
  if (verb === "delay") await new Promise((resolve) => setTimeout(resolve, Math.min(Number(number), MAX_DELAY_MS)));
  const status = verb === "status" && Number(number) >= 200 && Number(number) <= 599 ? Number(number) : 200;
  const seen = {
    app: name,
    method: request.method,
    path,
    peer: request.socket.remoteAddress?.replace(/^::ffff:/, ""),
    client: request.headers["l5d-client-id"] ?? null,
    headers: request.headers,
    bytes,
  };
  const bodiless = status === 204 || status === 304;
  response.writeHead(status, { "content-type": "application/json", "x-app": name });
  response.end(bodiless ? undefined : `${JSON.stringify(seen, null, 2)}\n`);
}
