import net, { type AddressInfo, type Server, type Socket } from "node:net";
import tls from "node:tls";
import { Client, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  CHANNEL_OPTIONS,
  type ClientCertificate,
  type MeshChannelOptions,
  MeshGrpcServer,
  meshCredentials,
  peerOf,
  silentLog,
} from "../../../src/bootstrap/control/index.ts";
import { PassThrough } from "../../../src/bootstrap/enroller/pass-through.ts";
import { decodeTransportHeader, TRANSPORT_ALPN } from "../../../src/proxy/wire/transport-header/index.ts";
import { type TestPair, testCertificate, testMeshCa } from "../../support/test-ca.ts";

const NAME = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local";
const HOST = "app.shop.serviceaccount.identity.linkerd.cluster.local";
const WHO = {
  path: "/test.Who/Am",
  requestStream: false,
  responseStream: false,
  requestSerialize: (bytes: Buffer) => bytes,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: (bytes: Buffer) => bytes,
  responseDeserialize: (bytes: Buffer) => bytes,
} as const;

let ca: { root: TestPair; issuer: TestPair };
let leaf: TestPair;
let host: TestPair;
const closes: (() => unknown)[] = [];

beforeAll(async () => {
  ca = await testMeshCa();
  leaf = await testCertificate({ issuer: ca.issuer, sans: [{ type: "dns", value: NAME }] });
  host = await testCertificate({ issuer: ca.issuer, sans: [{ type: "dns", value: HOST }] });
});

afterEach(async () => {
  for (const close of closes.splice(0).reverse()) await close();
});

const chain = (pair: TestPair): ClientCertificate => ({
  keyPem: pair.keyPem,
  certificatePem: pair.certificatePem + ca.issuer.certificatePem,
});

function makeServer(extra: Partial<ConstructorParameters<typeof MeshGrpcServer>[0]> = {}): MeshGrpcServer {
  const server = new MeshGrpcServer({
    identity: { ...chain(leaf), trustAnchorsPem: [ca.root.certificatePem] },
    services: (grpc) => {
      grpc.addService(
        { am: WHO },
        {
          am: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
            const { identity, address } = peerOf(call);
            done(null, Buffer.from(`${identity ?? "nobody"} ${address}`));
          },
        },
      );
    },
    ...extra,
  });
  closes.push(() => server.close(0));
  return server;
}

async function listen(extra: Parameters<typeof makeServer>[0] = {}): Promise<number> {
  return (await makeServer(extra).listen({ host: "127.0.0.1", port: 0 })).port;
}

function ask(port: number, options: Partial<MeshChannelOptions> = {}): Promise<string> {
  const anchors = [ca.root.certificatePem];
  const credentials = meshCredentials({ serverName: NAME, trustAnchorsPem: () => anchors, ...options });
  const client = new Client(`ipv4:127.0.0.1:${port}`, credentials, CHANNEL_OPTIONS);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      WHO.path,
      WHO.requestSerialize,
      WHO.responseDeserialize,
      Buffer.alloc(0),
      { deadline: Date.now() + 5000 },
      (error, answer) => {
        client.close();
        if (error === null) resolve(String(answer));
        else reject(error);
      },
    );
  });
}

describe("who is calling", () => {
  it("is nobody without a certificate", async () => {
    expect(await ask(await listen())).toBe("nobody 127.0.0.1");
  });

  it("is the first name of a certificate that the anchors vouch for", async () => {
    expect(await ask(await listen(), { certificate: () => chain(host) })).toBe(`${HOST} 127.0.0.1`);
  });

  it("is nobody with a self-signed certificate in somebody's name, or one from another mesh", async () => {
    const port = await listen();
    const forged = await testCertificate({ sans: [{ type: "dns", value: HOST }] });
    expect(await ask(port, { certificate: () => forged })).toBe("nobody 127.0.0.1");
    const other = await testMeshCa();
    const foreign = await testCertificate({ issuer: other.issuer, sans: [{ type: "dns", value: HOST }] });
    const certificate = {
      keyPem: foreign.keyPem,
      certificatePem: foreign.certificatePem + other.issuer.certificatePem,
    };
    // OpenSSL finds our root by its name, and the failed signature stays in its error queue, which ends the connection.
    const outcome = await ask(port, { certificate: () => certificate }).catch((error: Error) => error.message);
    expect(outcome).toMatch(/^nobody|UNAVAILABLE/);
  });

  it("is nobody with an expired certificate, or one that is not for clients", async () => {
    const port = await listen();
    const sans = [{ type: "dns" as const, value: HOST }];
    const expired = await testCertificate({ issuer: ca.issuer, sans, notAfterMs: Date.now() - 1000 });
    expect(await ask(port, { certificate: () => chain(expired) })).toBe("nobody 127.0.0.1");
    const serverOnly = await testCertificate({ issuer: ca.issuer, sans, usages: ["1.3.6.1.5.5.7.3.1"] });
    expect(await ask(port, { certificate: () => chain(serverOnly) })).toBe("nobody 127.0.0.1");
  });

  it("follows a renewed certificate at the next connection, without a new channel", async () => {
    const port = await listen();
    let present: ClientCertificate | undefined;
    const anchors = [ca.root.certificatePem];
    const options = { trustAnchorsPem: () => anchors, certificate: () => present };
    expect(await ask(port, options)).toContain("nobody");
    present = chain(host);
    expect(await ask(port, options)).toContain(HOST);
  });
});

describe("a client", () => {
  it("refuses a server under other roots, and one that proves another name", async () => {
    const port = await listen();
    const other = [(await testMeshCa()).root.certificatePem];
    await expect(ask(port, { trustAnchorsPem: () => other })).rejects.toThrow(/UNAVAILABLE/);
    await expect(ask(port, { serverName: "other.example" })).rejects.toThrow(/does not prove the name other\.example/);
    await expect(ask(port, { trustAnchorsPem: () => [] })).rejects.toThrow(/no trust anchors/);
  });

  it("does not accept a certificate's common name or a wildcard for the name", async () => {
    const named = await testCertificate({
      issuer: ca.issuer,
      name: NAME,
      sans: [{ type: "dns", value: NAME.replace(/^[^.]+/, "*") }],
    });
    const port = await listen({ identity: { ...chain(named), trustAnchorsPem: [ca.root.certificatePem] } });
    await expect(ask(port)).rejects.toThrow(/does not prove/);
  });
});

describe("the listener", () => {
  it("speaks TLS 1.3 and nothing older", async () => {
    const port = await listen();
    const error = await new Promise<Error>((resolve) => {
      tls.connect({ port, host: "127.0.0.1", maxVersion: "TLSv1.2", rejectUnauthorized: false }).on("error", resolve);
    });
    expect(error.message).toMatch(/protocol version/i);
  });

  it("closes on what is no TLS, on silence, and on a handshake that stops", async () => {
    const port = await listen({ patienceMs: 200 });
    const closed = (send: Buffer | undefined) =>
      new Promise<void>((resolve) => {
        const socket: Socket = net.connect(port, "127.0.0.1", () => send && socket.write(send));
        socket.on("error", () => {});
        socket.on("close", () => resolve());
      });
    await closed(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    await closed(undefined);
    await closed(Buffer.from("16030100", "hex"));
  });

  it("gives one source so much room for strangers, and those with an identity theirs", async () => {
    const port = await listen({ maxStrangers: 3 });
    const hold = () =>
      new Promise<"kept" | "closed">((resolve) => {
        const socket = net.connect(port, "127.0.0.1");
        closes.push(() => socket.destroy());
        socket.on("error", () => {});
        socket.once("close", () => resolve("closed"));
        setTimeout(() => resolve("kept"), 150);
      });
    expect(await Promise.all([hold(), hold()])).toEqual(["kept", "kept"]);
    const anchors = [ca.root.certificatePem];
    for (let i = 0; i < 3; i++) {
      const credentials = meshCredentials({
        serverName: NAME,
        trustAnchorsPem: () => anchors,
        certificate: () => chain(host),
      });
      const client = new Client(`ipv4:127.0.0.1:${port}`, credentials, CHANNEL_OPTIONS);
      closes.push(() => client.close());
      await new Promise<void>((resolve, reject) =>
        client.waitForReady(Date.now() + 3000, (error) => (error === undefined ? resolve() : reject(error))),
      );
    }
    expect(await Promise.all([hold(), hold()])).toEqual(["kept", "closed"]);
  });

  it("takes a ClientHello byte by byte", async () => {
    const port = await listen();
    const slow = net.createServer((socket) => {
      const out = net.connect({ port, host: "127.0.0.1", noDelay: true });
      socket.on("error", () => out.destroy());
      out.on("error", () => socket.destroy());
      socket.once("data", async (hello: Buffer) => {
        socket.pause();
        for (const byte of hello) {
          out.write(Buffer.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
        socket.pipe(out);
      });
      out.pipe(socket);
    });
    await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
    closes.push(() => new Promise((resolve) => slow.close(resolve)));
    expect(await ask((slow.address() as AddressInfo).port, { certificate: () => chain(host) })).toContain(HOST);
  });

  it("shows and believes a new identity from the next handshake on", async () => {
    const server = makeServer();
    const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
    const next = await testMeshCa();
    const fresh = await testCertificate({ issuer: next.issuer, sans: [{ type: "dns", value: NAME }] });
    server.setIdentity({
      keyPem: fresh.keyPem,
      certificatePem: fresh.certificatePem + next.issuer.certificatePem,
      trustAnchorsPem: [next.root.certificatePem],
    });
    await expect(ask(port)).rejects.toThrow();
    const anchors = [next.root.certificatePem];
    expect(await ask(port, { trustAnchorsPem: () => anchors })).toContain("nobody");
  });
});

describe("the way through to the control plane", () => {
  let pod: Server;
  let asked: number[];
  const opened: Socket[] = [];

  /** A destination pod: its proxy ends mesh TLS on one port and reads the header; behind it is the gRPC server. */
  beforeEach(async () => {
    asked = [];
    const inner = makeServer();
    const { port } = await inner.listen({ host: "127.0.0.1", port: 0 });
    pod = tls.createServer(
      {
        key: leaf.keyPem,
        cert: leaf.certificatePem + ca.issuer.certificatePem,
        ca: ca.root.certificatePem,
        requestCert: true,
        rejectUnauthorized: true,
        minVersion: "TLSv1.3",
        ALPNProtocols: [TRANSPORT_ALPN],
      },
      (socket) => {
        opened.push(socket);
        socket.on("error", () => {});
        let seen = Buffer.alloc(0);
        const read = (chunk: Buffer) => {
          seen = Buffer.concat([seen, chunk]);
          const header = decodeTransportHeader(seen);
          if (header.kind !== "done") return;
          socket.off("data", read);
          asked.push(header.value.port);
          // What follows is HTTP/2 in clear, as the proxy would hand it on; the inner server wants TLS of its own.
          const onward = tls.connect({ port, host: "127.0.0.1", servername: NAME, rejectUnauthorized: false });
          onward.on("error", () => {});
          onward.write(seen.subarray(header.consumed));
          socket.pipe(onward).pipe(socket);
        };
        socket.on("data", read);
      },
    );
    await new Promise<void>((resolve) => pod.listen(0, "127.0.0.1", resolve));
    closes.push(() => {
      for (const socket of opened.splice(0)) socket.destroy();
      return new Promise((resolve) => pod.close(resolve));
    });
  });

  it("carries a call unopened, with a header for the port inside", async () => {
    const through = new PassThrough({
      pods: () => ["127.0.0.1"],
      log: silentLog,
      connectTimeoutMs: 1000,
      maxConnections: 10,
      port: (pod.address() as AddressInfo).port,
    });
    closes.push(() => through.close());
    const port = await listen({
      route: ({ serverName, alpn }, socket) => {
        expect(serverName).toBe(NAME);
        if (!alpn.includes(TRANSPORT_ALPN)) return "refuse";
        through.carry(socket);
        return "taken";
      },
    });
    expect(await ask(port, { certificate: () => chain(host), throughPort: 8086 })).toContain("nobody");
    expect(asked).toEqual([8086]);
  });

  it("tries the next pod, and gives up when none takes the connection", async () => {
    let pods: readonly string[] = ["127.0.0.9", "127.0.0.1"];
    const through = new PassThrough({
      pods: () => pods,
      log: silentLog,
      connectTimeoutMs: 500,
      maxConnections: 10,
      port: (pod.address() as AddressInfo).port,
    });
    closes.push(() => through.close());
    const port = await listen({
      route: (_hello, socket) => {
        through.carry(socket);
        return "taken";
      },
    });
    expect(await ask(port, { certificate: () => chain(host), throughPort: 8090 })).toContain("nobody");
    expect(asked).toEqual([8090]);
    pods = [];
    await expect(ask(port, { certificate: () => chain(host), throughPort: 8090 })).rejects.toThrow(/UNAVAILABLE/);
  });
});
