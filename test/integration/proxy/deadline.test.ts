import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { OutboundPolicy } from "../../../src/proxy/policy/index.ts";
import { Hops } from "../../support/hops.ts";

function withTimeout(policy: OutboundPolicy, requestMs: number): OutboundPolicy {
  const { http1 } = policy;
  if (http1 === undefined) throw new Error("no HTTP/1 routes");
  const routes = http1.routes.map((route) => ({
    ...route,
    rules: route.rules.map((rule) => ({ ...rule, timeouts: { ...rule.timeouts, requestMs } })),
  }));
  return { ...policy, http1: { ...http1, routes }, http2: { ...http1, routes } };
}

describe("a route with a request timeout", () => {
  let app: Server;
  let hops: Hops;
  beforeAll(async () => {
    app = createServer((req, res) => {
      if (req.url === "/slow") return;
      if (req.url === "/drip") {
        res.write("a");
        return;
      }
      res.end("ok");
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => app.once("listening", resolve));
    hops = await Hops.start({
      appPort: (app.address() as AddressInfo).port,
      policy: (policy) => withTimeout(policy, 300),
    });
  });
  afterAll(() => {
    hops.close();
    app.closeAllConnections();
    app.close();
  });

  test("answers 504 and keeps the connection when no response begins in time", async () => {
    const slow = await fetch(`http://127.0.0.1:${hops.port}/slow`);
    expect(slow.status).toBe(504);
    expect(slow.headers.get("l5d-proxy-error")).toContain("request timeout: 300ms");
    expect(slow.headers.get("connection")).not.toBe("close");
    expect((await fetch(`http://127.0.0.1:${hops.port}/`)).status).toBe(200);
  });

  test("cuts a response that began and does not end", async () => {
    const drip = await fetch(`http://127.0.0.1:${hops.port}/drip`);
    expect(drip.status).toBe(200);
    await expect(drip.text()).rejects.toThrow();
  });
});
