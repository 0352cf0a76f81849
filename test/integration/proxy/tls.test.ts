import { createServer as createHttp, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Authority } from "../../../src/lab/pki.ts";
import { defaultInboundPolicy } from "../../../src/proxy/policy/index.ts";
import { encodeTransportHeader } from "../../../src/proxy/wire/transport-header/index.ts";
import { CLIENT_NAME, Hops, identityFrom, SERVER_NAME } from "../../support/hops.ts";

const ALPN = "transport.l5d.io/v1";

describe("who may speak to the host", () => {
  let app: Server;
  let appPort: number;
  let hops: Hops;
  let interceptedPort: number;

  beforeAll(async () => {
    app = createHttp((req, res) => res.end(`client ${req.headers["l5d-client-id"] ?? "nobody"}`)).listen(
      0,
      "127.0.0.1",
    );
    await new Promise((resolve) => app.once("listening", resolve));
    appPort = (app.address() as AddressInfo).port;
    hops = await Hops.start({
      appPort,
      inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 500, clusterNetworks: [] }),
    });
    // A second listener of the inbound hop: its port is not the proxy's own, so a connection to it counts as intercepted.
    interceptedPort = await hops.server.listenInbound(false);
    hops.server.discovery.inbound(interceptedPort).retain();
  });
  afterAll(() => {
    hops.close();
    app.close();
  });

  /** Sends one request inside TLS and tells what came back; undefined if the connection was refused. */
  function speak(port: number, options: ConnectionOptions, header: boolean): Promise<string | undefined> {
    return new Promise((resolve) => {
      const socket: TLSSocket = connect(
        {
          host: "127.0.0.1",
          port,
          servername: SERVER_NAME,
          ca: hops.authority.certificatePem,
          checkServerIdentity: () => undefined,
          ...options,
        },
        () => {
          if (header) socket.write(encodeTransportHeader({ port: appPort, name: undefined, protocol: "http1" }));
          socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        },
      );
      let seen = "";
      socket.on("error", () => {});
      socket.on("data", (chunk: Buffer) => {
        seen += chunk.toString();
      });
      socket.on("close", () => resolve(seen === "" ? undefined : seen));
    });
  }

  test("a good certificate on 4143 is served, and named", async () => {
    const { keyPem, certificatePem } = await identityFrom(hops.authority, CLIENT_NAME);
    const seen = await speak(hops.directPort, { key: keyPem, cert: certificatePem, ALPNProtocols: [ALPN] }, true);
    expect(seen).toContain(`client ${CLIENT_NAME}`);
  });

  test("a self-signed certificate that carries somebody's name is refused on 4143", async () => {
    const forger = await Authority.root("root.linkerd.cluster.local");
    const { keyPem, certificatePem } = await identityFrom(forger, CLIENT_NAME);
    expect(
      await speak(hops.directPort, { key: keyPem, cert: certificatePem, ALPNProtocols: [ALPN] }, true),
    ).toBeUndefined();
  });

  test("no certificate, no ALPN, a foreign ALPN, no TLS: refused on 4143", async () => {
    const { keyPem, certificatePem } = await identityFrom(hops.authority, CLIENT_NAME);
    expect(await speak(hops.directPort, { ALPNProtocols: [ALPN] }, true)).toBeUndefined();
    expect(await speak(hops.directPort, { key: keyPem, cert: certificatePem }, true)).toBeUndefined();
    expect(
      await speak(hops.directPort, { key: keyPem, cert: certificatePem, ALPNProtocols: ["h2"] }, true),
    ).toBeUndefined();
    const response = await fetch(`http://127.0.0.1:${hops.directPort}/`).catch(() => undefined);
    expect(response).toBeUndefined();
  });

  test("on an intercepted port a forged certificate gets nowhere, and nobody is anybody without one", async () => {
    const forger = await Authority.root("root.linkerd.cluster.local");
    const { keyPem, certificatePem } = await identityFrom(forger, CLIENT_NAME);
    expect(await speak(interceptedPort, { key: keyPem, cert: certificatePem }, false)).toBeUndefined();
    // This port wants a mesh identity, and anonymous TLS is none.
    expect(await speak(interceptedPort, {}, false)).toMatch(/^HTTP\/1\.1 403 /);
  });

  test("TLS 1.2 is refused with an alert, not passed through", async () => {
    const { keyPem, certificatePem } = await identityFrom(hops.authority, CLIENT_NAME);
    const seen = await speak(
      hops.directPort,
      { key: keyPem, cert: certificatePem, ALPNProtocols: [ALPN], maxVersion: "TLSv1.2" },
      true,
    );
    expect(seen).toBeUndefined();
  });

  test("a renewed identity is used by the next handshake, and open connections go on", async () => {
    const before = await fetch(`http://127.0.0.1:${hops.port}/`);
    expect(await before.text()).toContain(CLIENT_NAME);
    hops.client.mesh.update(
      await identityFrom(hops.authority, "renewed.ns.serviceaccount.identity.linkerd.cluster.local"),
    );
    hops.server.mesh.update(await identityFrom(hops.authority, SERVER_NAME, "spiffe://cluster.local/ns/ns/sa/server"));
    const after = await fetch(`http://127.0.0.1:${hops.port}/`);
    expect(await after.text()).toContain(CLIENT_NAME);
  });
});
