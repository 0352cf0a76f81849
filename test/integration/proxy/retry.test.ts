import { afterEach, describe, expect, test } from "vitest";
import { NO_TIMEOUTS, type OutboundRule, onlyBackend, type RetryPolicy } from "../../../src/proxy/policy/index.ts";
import { App, ask, Balanced, backendOf, routeTo } from "../../support/balanced.ts";

const RETRY: RetryPolicy = {
  maxRetries: 2,
  maxRequestBytes: 65_536,
  statusRanges: [{ start: 500, end: 599 }],
  grpcCodes: [],
  timeoutMs: undefined,
  backoff: { minMs: 5, maxMs: 20, jitter: 1 },
};

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

async function site(app: App, change: Partial<OutboundRule>): Promise<Balanced> {
  const balanced = await Balanced.start(routeTo(onlyBackend(backendOf("a:80")), change), {
    "a:80": [await app.listen()],
  });
  open.push(balanced, app);
  return balanced;
}

/** Fails until the `good`th call, then echoes. */
function failing(good: number, status = 503): App {
  return new App((req, res, call) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("end", () => {
      res.statusCode = call < good ? status : 200;
      res.end(`${call} ${Buffer.concat(chunks).length}`);
    });
  });
}

describe("a route that retries", () => {
  test("asks again until the answer is not to be retried, with the whole body", async () => {
    const app = failing(3);
    const { port, proxy } = await site(app, { retry: RETRY });
    const answer = await ask(port, { method: "POST", body: Buffer.alloc(20_000, "x") });
    expect(answer).toMatchObject({ status: 200, body: "3 20000" });
    expect(proxy.attempted.map((x) => x.response?.status)).toEqual([503, 503, 200]);
    expect(proxy.ended).toHaveLength(1);
  });

  test("passes the last answer on when its attempts are used up", async () => {
    const app = failing(9);
    const { port } = await site(app, { retry: RETRY });
    expect(await ask(port)).toMatchObject({ status: 503, body: "3 0" });
    expect(app.calls).toBe(3);
  });

  test("leaves alone what it does not name", async () => {
    const app = failing(9, 404);
    const { port } = await site(app, { retry: RETRY });
    expect((await ask(port)).status).toBe(404);
    expect(app.calls).toBe(1);
  });

  test.each([
    ["of 65536 bytes is sent again", 65_536, 2],
    ["of 65537 bytes is sent once", 65_537, 1],
  ])("a body %s", async (_name, bytes, calls) => {
    const app = failing(2);
    const { port } = await site(app, { retry: RETRY });
    const answer = await ask(port, { method: "POST", body: Buffer.alloc(bytes) });
    expect(answer.status).toBe(calls === 2 ? 200 : 503);
    expect(app.calls).toBe(calls);
  });

  test("a streamed body over the limit is sent once, whole", async () => {
    const app = failing(2);
    const { port } = await site(app, { retry: RETRY });
    const headers = { "transfer-encoding": "chunked" };
    const answer = await ask(port, { method: "POST", body: Buffer.alloc(200_000), headers });
    expect(answer).toMatchObject({ status: 503, body: "1 200000" });
  });

  test("an attempt that takes too long is given up for the next; the last one may take its time", async () => {
    const app = new App((_req, res, call) => {
      if (call === 1) return;
      setTimeout(() => res.end(String(call)), 150);
    });
    const { port } = await site(app, { retry: { ...RETRY, maxRetries: 1, timeoutMs: 100 } });
    expect(await ask(port)).toMatchObject({ status: 200, body: "2" });
  });

  test("a response that takes longer than its route allows is not asked for again", async () => {
    const app = new App(() => {});
    const { port } = await site(app, { retry: RETRY, timeouts: { ...NO_TIMEOUTS, responseMs: 100 } });
    expect((await ask(port)).status).toBe(504);
    expect(app.calls).toBe(1);
  });

  test("the request's own deadline ends all attempts", async () => {
    const app = new App(() => {});
    const { port } = await site(app, {
      retry: { ...RETRY, maxRetries: 50, timeoutMs: 50 },
      timeouts: { ...NO_TIMEOUTS, requestMs: 300 },
    });
    const answer = await ask(port);
    expect(answer.status).toBe(504);
    expect(answer.headers["l5d-proxy-error"]).toContain("request timeout: 300ms");
  });

  test("headers of the program set what its route allows them to, and go no further", async () => {
    const app = failing(2, 418);
    const { port } = await site(app, { allowRequestHeaders: true });
    const headers = { "l5d-retry-http": "418", "l5d-retry-limit": "1", "l5d-timeout": "5s" };
    expect(await ask(port, { headers })).toMatchObject({ status: 200, body: "2 0" });
  });

  test("and count for nothing elsewhere", async () => {
    const app = failing(2, 418);
    const { port } = await site(app, {});
    expect((await ask(port, { headers: { "l5d-retry-http": "418" } })).status).toBe(418);
  });

  test("a connection that is refused is an answer of 502, and retried as one", async () => {
    const app = failing(1);
    const dead = new App(() => {});
    const gone = await dead.listen();
    dead.close();
    const balanced = await Balanced.start(
      routeTo(onlyBackend(backendOf("a:80")), { retry: { ...RETRY, maxRetries: 30 } }),
      {
        "a:80": [gone, await app.listen()],
      },
    );
    open.push(balanced, app);
    for (let i = 0; i < 20; i++) expect((await ask(balanced.port)).status).toBe(200);
  });
});

describe("a route with timeouts", () => {
  test("cuts a response that falls silent for the idle time", async () => {
    const app = new App((_req, res) => {
      res.write("a");
    });
    const { port } = await site(app, { timeouts: { ...NO_TIMEOUTS, idleMs: 200 } });
    await expect(ask(port)).rejects.toThrow();
  });

  test("lets one go on that does not", async () => {
    const app = new App((_req, res) => {
      let left = 8;
      const timer = setInterval(() => {
        if (left-- > 0) return void res.write("a");
        clearInterval(timer);
        res.end("z");
      }, 60);
    });
    const { port } = await site(app, { timeouts: { ...NO_TIMEOUTS, idleMs: 400 } });
    expect((await ask(port)).body).toBe("aaaaaaaaz");
  });

  test("counts the response's time from the end of the request", async () => {
    const app = new App(() => {});
    const { port } = await site(app, { timeouts: { ...NO_TIMEOUTS, responseMs: 150 } });
    const answer = await ask(port);
    expect(answer.status).toBe(504);
    expect(answer.headers["l5d-proxy-error"]).toContain("response stream timeout: 150ms");
  });
});

describe("an identity that the program insists on", () => {
  test("is not there on an endpoint without one", async () => {
    const { port } = await site(failing(1), {});
    const answer = await ask(port, {
      headers: { "l5d-require-id": "web.ns.serviceaccount.identity.l5d.cluster.local" },
    });
    expect(answer.status).toBe(502);
    expect(answer.headers["l5d-proxy-error"]).toContain("required id");
  });

  test("is dropped where it is no identity at all", async () => {
    const { port } = await site(failing(1), {});
    expect((await ask(port, { headers: { "l5d-require-id": "///" } })).status).toBe(200);
  });
});
