import { createServer, type Server } from "node:http";
import { MetricsStore, ProcessMetrics } from "./metrics/index.ts";

/** What the page tells of an enroller. */
export interface EnrollerSource {
  hosts(): { readonly attached: number; readonly held: number };
}

/**
 * `/metrics`, `/live` and `/ready` of an enroller, for the kubelet and for Prometheus. Reads only; nothing on it is secret.
 *
 * @param startedAtMs - When the process started, Unix milliseconds.
 */
export function createEnrollerPage(source: EnrollerSource, startedAtMs: number): Server {
  const store = new MetricsStore(() => performance.now());
  const process = new ProcessMetrics(store.registry, startedAtMs, () => Date.now());
  const attached = store.registry.gauge("mesh_agent_enroller_hosts", { state: "attached" });
  const held = store.registry.gauge("mesh_agent_enroller_hosts", { state: "held" });
  const metrics = (): string => {
    const hosts = source.hosts();
    attached.set(hosts.attached);
    held.set(hosts.held);
    process.refresh();
    return store.format();
  };
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 8_192 },
    (request, response) => {
      const path = (request.url ?? "/").split("?", 1)[0];
      const isRead = request.method === "GET" || request.method === "HEAD";
      const known = new Map([
        ["/live", () => "live\n"],
        ["/ready", () => "ready\n"],
        ["/metrics", metrics],
      ]).get(path ?? "");
      const status = isRead ? (known === undefined ? 404 : 200) : 405;
      response.writeHead(status, { "content-type": path === "/metrics" ? "text/plain; version=0.0.4" : "text/plain" });
      const body = status === 200 ? known?.() : status === 404 ? "not found\n" : "method not allowed\n";
      response.end(request.method === "HEAD" ? undefined : body);
    },
  );
  server.maxConnections = 64;
  return server;
}
