import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { TapEvent } from "../../proxy/core/messages.ts";
import type { AgentStatus } from "../status.ts";

/** What the command line can ask of the running agent. */
export interface ControlSource {
  status(): AgentStatus;
  /** Everything that discovery knows about an original destination, as far as it is being watched. */
  explain(ip: string, port: number): unknown;
  endpoints(path: string): unknown;
  /** Calls back for every finished exchange until the returned function is called. */
  tap(listener: (event: TapEvent) => void): () => void;
  /** Leaves the mesh: not ready, drained, then stopped. */
  leave(): Promise<void>;
  /** Puts the program on the disk into this one's place; resolves when it serves. */
  reload(): Promise<{ readonly pid: number }>;
}

// A reader that falls behind loses events rather than costing memory.
const MAX_TAP_BACKLOG_BYTES = 1024 * 1024;

/**
 * The command line's side door: HTTP and JSON on a unix socket. Whoever may open the socket may ask; there is no other
 * credential.
 */
export function createControlServer(source: ControlSource): Server {
  return createServer({ requestTimeout: 0, headersTimeout: 5_000 }, (request, response) => {
    answer(source, request, response).catch((error: Error) => json(response, 500, { error: error.message }));
  });
}

async function answer(source: ControlSource, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://control");
  switch (`${request.method} ${url.pathname}`) {
    case "GET /status":
      return json(response, 200, source.status());
    case "GET /explain":
      return json(
        response,
        200,
        source.explain(url.searchParams.get("ip") ?? "", Number(url.searchParams.get("port"))),
      );
    case "GET /endpoints":
      return json(response, 200, source.endpoints(url.searchParams.get("path") ?? ""));
    case "GET /tap":
      return streamTap(source, response);
    case "POST /leave":
      await source.leave();
      return json(response, 200, { left: true });
    case "POST /reload": {
      const { pid } = await source.reload();
      return json(response, 200, { pid });
    }
    default:
      return json(response, 404, { error: "no such question" });
  }
}

function streamTap(source: ControlSource, response: ServerResponse): void {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  response.flushHeaders();
  const stop = source.tap((event) => {
    if (response.writableLength < MAX_TAP_BACKLOG_BYTES) response.write(`${JSON.stringify(event)}\n`);
  });
  response.on("close", stop);
}

function json(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(body ?? null)}\n`);
}
