import { once } from "node:events";
import { type IncomingMessage, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createAdminServer } from "../../../../src/agent/admin/index.ts";
import type { AgentStatus } from "../../../../src/agent/status.ts";

const PAGE = "up 1\n".repeat(1_000);

let server: Server;
beforeAll(async () => {
  server = createAdminServer({
    ready: () => false,
    metrics: () => PAGE,
    status: () => ({ state: "ready" }) as AgentStatus,
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterAll(() => {
  server.close();
});

async function ask(method: string, path: string, host: string): Promise<number | undefined> {
  const { port } = server.address() as AddressInfo;
  const question = request({ host: "127.0.0.1", port, method, path, headers: { host }, agent: false });
  question.end();
  const [response] = (await once(question, "response")) as [IncomingMessage];
  response.resume();
  await once(response, "end");
  return response.statusCode;
}

describe("the admin server", () => {
  it.each(["127.0.0.1:4191", "localhost", "[::1]:4191"])("answers a page of this machine: %s", async (host) => {
    expect(await ask("GET", "/metrics", host)).toBe(200);
    expect(await ask("GET", "/live", host)).toBe(200);
    expect(await ask("GET", "/ready", host)).toBe(503);
  });

  it.each(["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:4191"])(
    "refuses a browser that was led here under another name: %j",
    async (host) => {
      for (const path of ["/metrics", "/status.json", "/live"]) expect(await ask("GET", path, host)).toBe(403);
    },
  );

  it.each(["POST", "PUT", "DELETE", "OPTIONS"])("has nothing that %s could do", async (method) => {
    for (const path of ["/metrics", "/shutdown", "/status.json"])
      expect(await ask(method, path, "localhost")).toBe(405);
  });

  it("the page is plain text, whatever is asked for", async () => {
    const { port } = server.address() as AddressInfo;
    for (const accept of ["application/openmetrics-text; version=1.0.0", "application/json", "*/*"]) {
      const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { accept } });
      expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4");
      await response.text();
    }
  });

  it.each([
    ["gzip", "gzip"],
    ["deflate, gzip;q=0.5", "gzip"],
    ["gzip;q=0", undefined],
    ["identity", undefined],
  ])("compresses long answers for who can read it: %s", async (accepted, coded) => {
    const { port } = server.address() as AddressInfo;
    const question = request({ host: "127.0.0.1", port, path: "/metrics", headers: { "accept-encoding": accepted } });
    question.end();
    const [response] = (await once(question, "response")) as [IncomingMessage];
    expect(response.headers["content-encoding"]).toBe(coded);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    expect((coded === undefined ? body : gunzipSync(body)).toString()).toBe(PAGE);
  });

  it("has no way to stop the agent", async () => {
    expect(await ask("GET", "/shutdown", "localhost")).toBe(404);
  });
});
