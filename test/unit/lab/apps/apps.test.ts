import { once } from "node:events";
import { connect } from "node:net";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { type App, ECHO, startGrpcEcho, startHttpEcho, startTcpGreeter } from "../../../../src/lab/apps/index.ts";

const open: App[] = [];
afterEach(async () => {
  for (const app of open.splice(0)) await app.close();
});

async function started(start: typeof startHttpEcho): Promise<App> {
  const app = await start({ host: "127.0.0.1", port: 0, name: "sample" });
  open.push(app);
  return app;
}

describe("the HTTP echo", () => {
  it("reports what it saw", async () => {
    const { port } = await started(startHttpEcho);
    const response = await fetch(`http://127.0.0.1:${port}/a?b`, {
      method: "POST",
      body: "12345",
      headers: { "l5d-client-id": "web.shop" },
    });
    expect(await response.json()).toMatchObject({
      app: "sample",
      method: "POST",
      path: "/a?b",
      client: "web.shop",
      bytes: 5,
      peer: "127.0.0.1",
    });
  });

  it("answers with the status it is asked for", async () => {
    const { port } = await started(startHttpEcho);
    expect((await fetch(`http://127.0.0.1:${port}/status/503`)).status).toBe(503);
    expect((await fetch(`http://127.0.0.1:${port}/status/204`)).status).toBe(204);
    expect(await (await fetch(`http://127.0.0.1:${port}/healthz`)).text()).toBe("ok\n");
  });
});

describe("the TCP greeter", () => {
  it("speaks first, then echoes", async () => {
    const { port } = await started(startTcpGreeter);
    const socket = connect(port, "127.0.0.1");
    const [greeting] = await once(socket, "data");
    expect(String(greeting)).toBe("220 sample ready\n");
    socket.write("hello\n");
    const [echo] = await once(socket, "data");
    expect(String(echo)).toBe("hello\n");
    socket.destroy();
  });
});

describe("the gRPC echo", () => {
  it("returns messages, names the client, fails on demand", async () => {
    const { port } = await started(startGrpcEcho);
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set("l5d-client-id", "web.shop");
    const call = (definition: typeof ECHO.Say) =>
      new Promise<{ message: string; trailers: Metadata } | ServiceError>((resolve) => {
        const { path, requestSerialize, responseDeserialize } = definition;
        let trailers = new Metadata();
        const unary = client.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          Buffer.from("hi"),
          metadata,
          (error, message) => {
            setImmediate(() => resolve(error ?? { message: String(message), trailers }));
          },
        );
        unary.on("status", (status) => {
          trailers = status.metadata;
        });
      });
    const said = await call(ECHO.Say);
    expect(said).toMatchObject({ message: "hi" });
    expect("trailers" in said && said.trailers.get("client")).toEqual(["web.shop"]);
    expect(await call(ECHO.Fail)).toMatchObject({ code: 14, details: "as asked" });
    client.close();
  });
});
