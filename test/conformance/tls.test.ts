import "reflect-metadata";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, createServer as createTls } from "node:tls";
import * as x509 from "@peculiar/x509";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { identitiesOf } from "../../src/proxy/transport/tls-identity.ts";
import { encodeTransportHeader } from "../../src/proxy/wire/transport-header/index.ts";
import { alpn, clientHello, extension, serverName } from "../support/client-hello.ts";
import { CLIENT_NAME, type HopProxy, Hops, type HopsOptions, SERVER_NAME, SERVER_URI } from "../support/hops.ts";
import { type TestCertificateOptions, type TestPair, testCertificate } from "../support/test-ca.ts";
import { until } from "../support/until.ts";

/*
 * Mesh TLS through the running proxy, in both roles: which certificates name somebody, what a handshake may look like,
 * and which groups are agreed on.
 */

const ALPN = "transport.l5d.io/v1";
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const rsa = (bits: number, hash = "SHA-256") =>
  ({ name: "RSASSA-PKCS1-v1_5", modulusLength: bits, publicExponent: new Uint8Array([1, 0, 1]), hash }) as const;

/** A leaf and what stands above it, the anchor left out. */
interface Shown {
  readonly leaf: TestPair;
  readonly above?: readonly TestPair[];
}

let root: TestPair;
let issuer: TestPair;
let closers: (() => void)[] = [];
beforeAll(async () => {
  root = await testCertificate({ name: "root.linkerd.cluster.local", ca: true });
  issuer = await testCertificate({ name: "identity.linkerd.cluster.local", ca: true, issuer: root, pathLength: 0 });
});
afterAll(() => {
  for (const close of closers.toReversed()) close();
  closers = [];
});

/** What may be wrong with a certificate, made for one of two names. */
const kinds: [string, boolean, (name: string, uri: string | undefined) => Promise<Shown>][] = [];
const kind = (what: string, good: boolean, make: (name: string, uri: string | undefined) => Promise<Shown>) =>
  kinds.push([what, good, make]);
const sansOf = (name: string, uri: string | undefined): x509.JsonGeneralNames => [
  { type: "dns", value: name },
  ...(uri === undefined ? [] : [{ type: "url", value: uri } as const]),
];
const under =
  (options: (name: string, uri: string | undefined) => TestCertificateOptions) =>
  async (name: string, uri: string | undefined): Promise<Shown> => ({
    leaf: await testCertificate({ sans: sansOf(name, uri), issuer, ...options(name, uri) }),
    above: [issuer],
  });
const hour = 3_600_000;

kind(
  "as the mesh issues it",
  true,
  under(() => ({})),
);
kind(
  "upper case in the name (T03)",
  true,
  under((name, uri) => ({ sans: sansOf(name.toUpperCase(), uri) })),
);
kind(
  "P-384 (T06)",
  true,
  under(() => ({ algorithm: { name: "ECDSA", namedCurve: "P-384" } })),
);
kind(
  "Ed25519 (T06)",
  true,
  under(() => ({ algorithm: { name: "Ed25519" } })),
);
// A stock proxy has no RSA signature for handshakes of TLS 1.3 either; RSA signs certificates only.
kind(
  "an RSA leaf (T06)",
  false,
  under(() => ({ algorithm: rsa(2048) })),
);
kind("an RSA issuer under an RSA anchor (T06)", true, async (name, uri) => {
  const anchor = await testCertificate({ name: "rsa root", ca: true, algorithm: rsa(2048) });
  rsaAnchor = anchor;
  const middle = await testCertificate({ name: "rsa issuer", ca: true, issuer: anchor, algorithm: rsa(2048) });
  return { leaf: await testCertificate({ sans: sansOf(name, uri), issuer: middle }), above: [middle] };
});
kind("another CA (T01)", false, async (name, uri) => {
  const other = await testCertificate({ name: "root.linkerd.cluster.local", ca: true });
  return { leaf: await testCertificate({ sans: sansOf(name, uri), issuer: other }), above: [other] };
});
kind("self-signed (T01)", false, async (name, uri) => ({ leaf: await testCertificate({ sans: sansOf(name, uri) }) }));
kind("no issuer sent (T01)", false, async (name, uri) => ({
  leaf: await testCertificate({ sans: sansOf(name, uri), issuer }),
}));
kind(
  "expired (T02)",
  false,
  under(() => ({ notBeforeMs: Date.now() - 2 * hour, notAfterMs: Date.now() - hour })),
);
kind(
  "not yet valid (T02)",
  false,
  under(() => ({ notBeforeMs: Date.now() + hour, notAfterMs: Date.now() + 2 * hour })),
);
kind(
  "neither EKU of TLS (T05)",
  false,
  under(() => ({ usages: ["1.3.6.1.5.5.7.3.3"] })),
);
kind(
  "a CA as leaf (T05)",
  false,
  under(() => ({
    ca: true,
    keyUsage: x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature,
  })),
);
kind("a path longer than allowed (T05)", false, async (name, uri) => {
  const deeper = await testCertificate({ name: "deeper", ca: true, issuer });
  return { leaf: await testCertificate({ sans: sansOf(name, uri), issuer: deeper }), above: [deeper, issuer] };
});
kind("a leaf that issues (T05)", false, async (name, uri) => {
  const leaf = await testCertificate({ sans: sansOf("other.example", undefined), issuer });
  return { leaf: await testCertificate({ sans: sansOf(name, uri), issuer: leaf }), above: [leaf, issuer] };
});
kind("outside its issuer's name constraints (T05)", false, async (name, uri) => {
  // permittedSubtrees: dNSName "elsewhere.example", critical.
  const permitted = Buffer.from("elsewhere.example", "latin1");
  const subtree = Buffer.concat([Buffer.of(0x82, permitted.length), permitted]);
  const constraints = Buffer.concat([
    Buffer.of(0x30, subtree.length + 4, 0xa0, subtree.length + 2, 0x30, subtree.length),
    subtree,
  ]);
  const bound = await testCertificate({ name: "bound", ca: true, issuer: root, extra: { "2.5.29.30": constraints } });
  return { leaf: await testCertificate({ sans: sansOf(name, uri), issuer: bound }), above: [bound] };
});
kind(
  "a critical extension that nobody knows (T05)",
  false,
  under(() => ({ extra: { "1.2.3.4.5": Buffer.of(5, 0) } })),
);
kind(
  "RSA-1024 (T06)",
  false,
  under(() => ({ algorithm: rsa(1024) })),
);
kind("signed with SHA-1 (T06)", false, async (name, uri) => {
  const old = await testCertificate({ name: "old", ca: true, issuer: root, algorithm: rsa(2048, "SHA-1") });
  return { leaf: await testCertificate({ sans: sansOf(name, uri), issuer: old, hash: "SHA-1" }), above: [old] };
});

/** Right certificates that name nobody, or somebody else. */
const nameless: [string, x509.JsonGeneralNames | undefined][] = [
  ["no SAN, the name in CN (T01)", undefined],
  ["an IP address as SAN (T01)", [{ type: "ip", value: "127.0.0.1" }]],
  ["a mail address as SAN (T01)", [{ type: "email", value: "a@b.example" }]],
  ["a trailing dot (T03)", [{ type: "dns", value: `${SERVER_NAME}.` }]],
  ["a wildcard (T03)", [{ type: "dns", value: "*.ns.serviceaccount.identity.linkerd.cluster.local" }]],
  ["a NUL in the name (T03)", [{ type: "dns", value: `${SERVER_NAME}\0.example` }]],
  ["a comma and a second name in it (T03)", [{ type: "dns", value: `a.example, DNS:${SERVER_NAME}` }]],
];

let rsaAnchor: TestPair | undefined;

/** Lets a hop believe in the anchors of this file as well. */
function trust(hop: HopProxy): void {
  const { identity } = hop.mesh;
  if (identity === undefined) throw new Error("no identity");
  const more = [root, ...(rsaAnchor === undefined ? [] : [rsaAnchor])].map(({ certificatePem }) => certificatePem);
  hop.mesh.update({ ...identity, trustAnchorsPem: [...new Set([...identity.trustAnchorsPem, ...more])] });
}

const pems = ({ leaf, above = [] }: Shown) => [leaf, ...above].map(({ certificatePem }) => certificatePem).join("");
// To show what no honest OpenSSL would.
const CARELESS = { ciphers: "DEFAULT:@SECLEVEL=0", minVersion: "TLSv1.3" } as const;

async function start(options: Partial<HopsOptions> = {}): Promise<{ hops: Hops; appPort: number }> {
  const app = createHttp((req, res) => res.end(`client ${req.headers["l5d-client-id"] ?? "nobody"}`));
  app.listen(0, "127.0.0.1");
  await once(app, "listening");
  const appPort = (app.address() as AddressInfo).port;
  const hops = await Hops.start({
    appPort,
    inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 500, clusterNetworks: [] }),
    ...options,
  });
  closers.push(
    () => app.close(),
    () => hops.close(),
  );
  return { hops, appPort };
}

describe("certificates of clients", () => {
  let hops: Hops;
  let appPort: number;
  beforeAll(async () => {
    ({ hops, appPort } = await start());
  });

  /** One request as a mesh peer with this certificate; undefined if the connection was refused. */
  function speak(shown: Shown | undefined, more: ConnectionOptions = {}): Promise<string | undefined> {
    trust(hops.server);
    return new Promise((resolve) => {
      const socket = connectTls(
        {
          host: "127.0.0.1",
          port: hops.directPort,
          servername: SERVER_NAME,
          ALPNProtocols: [ALPN],
          rejectUnauthorized: false,
          ...CARELESS,
          ...(shown === undefined ? {} : { key: shown.leaf.keyPem, cert: pems(shown) }),
          ...more,
        },
        () => {
          socket.write(encodeTransportHeader({ port: appPort, name: undefined, protocol: "http1" }));
          socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        },
      );
      let heard = "";
      socket.on("error", () => {});
      socket.on("data", (chunk: Buffer) => {
        heard += chunk.toString("latin1");
      });
      socket.on("close", () => resolve(heard === "" ? undefined : (heard.split("\r\n\r\n")[1] ?? heard)));
    });
  }

  test.each(kinds)("%s: taken %s", async (_what, good, make) => {
    const heard = await speak(await make(CLIENT_NAME, undefined));
    if (good) expect(heard).toContain(`client ${CLIENT_NAME}`);
    else expect(heard).toBeUndefined();
  });

  test("clientAuth missing (T05)", async () => {
    expect(await speak(await under(() => ({ usages: [SERVER_AUTH] }))(CLIENT_NAME, undefined))).toBeUndefined();
  });

  test.each(nameless)("%s is nobody on our own port", async (_what, sans) => {
    const leaf = await testCertificate({ name: SERVER_NAME, issuer, ...(sans === undefined ? {} : { sans }) });
    expect(await speak({ leaf, above: [issuer] })).toBeUndefined();
  });

  test("several names: the first one, and never one of a text with commas", () => {
    expect(identitiesOf(`DNS:A.example, URI:spiffe://a/b, DNS:c.example`)).toEqual([
      "a.example",
      "spiffe://a/b",
      "c.example",
    ]);
    expect(identitiesOf(`DNS:"a.example, DNS:b.example"`)).toEqual([]);
  });

  test("the reason is counted and logged, and the process lives (T01)", async () => {
    expect(
      await speak(await under(() => ({ notAfterMs: Date.now() - 1_000 }))(CLIENT_NAME, undefined)),
    ).toBeUndefined();
    expect(hops.server.metrics.format()).toMatch(/inbound_tcp_errors_total\{.*\} \d+\n/);
    expect(await speak(await under(() => ({}))(CLIENT_NAME, undefined))).toContain(CLIENT_NAME);
  });

  test("versions before 1.3 get protocol_version, whatever they offer (T07)", async () => {
    // Hellos by hand: this OpenSSL does not even offer some of them.
    for (const version of [0x0300, 0x0301, 0x0302, 0x0303]) {
      const heard = await raw(
        hops.directPort,
        clientHello({ version, extensions: [serverName(SERVER_NAME), alpn(ALPN)] }),
      );
      // Alert record, fatal, protocol_version (70) or handshake_failure (40): never anything of the application's.
      expect(heard[0], String(version)).toBe(0x15);
      expect(heard[5]).toBe(2);
      expect([70, 40]).toContain(heard[6]);
    }
    const code = await new Promise((resolve) => {
      const socket = connectTls({
        host: "127.0.0.1",
        port: hops.directPort,
        servername: SERVER_NAME,
        ALPNProtocols: [ALPN],
        maxVersion: "TLSv1.2",
        rejectUnauthorized: false,
      });
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code));
      socket.on("secureConnect", () => resolve("connected"));
    });
    expect(code).toBe("ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION");
  });

  test.each<[string, string[]]>([
    ["h2", ["h2"]],
    ["HTTP/1", ["http/1.1"]],
    ["garbage", ["\x01\xff"]],
    ["200 protocols", Array.from({ length: 200 }, (_, i) => `p${i}`)],
  ])("ALPN %s is refused on our own port, and the process lives (T12)", async (_what, protocols) => {
    const good = await under(() => ({}))(CLIENT_NAME, undefined);
    expect(await speak(good, { ALPNProtocols: protocols })).toBeUndefined();
    expect(await speak(good, { ALPNProtocols: [...protocols, ALPN] })).toContain(CLIENT_NAME);
  });

  test("a hybrid key exchange is taken, and so are the others of a stock proxy (T11)", async () => {
    const good = await under(() => ({}))(CLIENT_NAME, undefined);
    for (const group of ["X25519MLKEM768", "X25519", "P-256", "P-384"])
      expect(await speak(good, { ecdhCurve: group }), group).toContain(CLIENT_NAME);
  });
});

/** Bytes in, bytes out until the end. */
async function raw(port: number, bytes: Buffer, bySegment = false): Promise<Buffer> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("error", () => {});
  await once(socket, "connect");
  if (bySegment) {
    for (let at = 0; at < bytes.length && !socket.destroyed; at++) {
      socket.write(bytes.subarray(at, at + 1));
      // Each by itself in the proxy's socket, as far as the kernel lets it.
      if (at % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  } else socket.write(bytes);
  if (!socket.destroyed) await once(socket, "close");
  return Buffer.concat(chunks);
}

describe("hellos", () => {
  /** An intercepted port: ours is terminated, everything else reaches the application as it came. */
  let port: number;
  let directPort: number;
  let reached: Buffer[] = [];
  let app: Server;
  beforeAll(async () => {
    app = createServer((socket) => {
      socket.on("error", () => {});
      const chunks: Buffer[] = [];
      socket.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        clearTimeout(timer);
        timer = setTimeout(() => socket.end("plain"), 50);
      });
      let timer = setTimeout(() => {}, 0);
      socket.on("close", () => reached.push(Buffer.concat(chunks)));
    });
    app.listen(0, "127.0.0.1");
    await once(app, "listening");
    const appPort = (app.address() as AddressInfo).port;
    const { hops } = await start({ appPort, detectTimeoutMs: 10_000 });
    directPort = hops.directPort;
    port = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: appPort });
    closers.push(() => app.close());
  });

  const big = extension(21, Buffer.alloc(60 * 1024));
  const grease = extension(0x0a0a, Buffer.of(0));
  const keyShare = extension(51, Buffer.alloc(1_500, 1));
  test.each<[string, readonly Buffer[], boolean, boolean]>([
    ["1.5 KiB of key share and GREASE, one byte a segment", [grease, serverName(SERVER_NAME), keyShare], true, true],
    ["60 KiB of extensions", [serverName(SERVER_NAME), big], false, true],
    ["60 KiB of extensions, one byte a segment", [serverName(SERVER_NAME), big], true, true],
    ["no SNI", [grease], false, false],
    ["two names", [serverName(SERVER_NAME, "b.example")], false, false],
    ["an IP address as name", [serverName("127.0.0.1")], false, false],
    ["a name of 255 bytes", [serverName("a".repeat(255))], false, false],
    ["a name of 300 bytes", [serverName(`${"a".repeat(60)}.`.repeat(5))], false, false],
    ["NUL in the name", [serverName(`${SERVER_NAME}\0`)], false, false],
    ["non-ASCII in the name", [serverName("\xe4.example")], false, false],
    ["__proto__", [serverName("__proto__")], false, false],
    ["constructor", [serverName("constructor")], false, false],
    ["a trailing dot", [serverName(`${SERVER_NAME}.`)], false, false],
    ["a neighbour's name", [serverName(`x${SERVER_NAME}`)], false, false],
  ])("%s (T11)", async (_what, extensions, bySegment, ours) => {
    reached = [];
    const hello = clientHello({ extensions, recordBytes: 16_384 });
    const heard = await raw(port, hello, bySegment);
    if (ours) {
      // Made by hand and without a key it cannot succeed: an alert of ours, and nothing for the application.
      expect(heard[0]).toBe(0x15);
      expect(reached).toEqual([]);
    } else {
      expect(heard.toString()).toBe("plain");
      await until(() => reached.length > 0, "the application has read it");
      expect(Buffer.concat(reached).toString("hex")).toBe(hello.toString("hex"));
    }
    // On our own port nobody's hello goes anywhere.
    const direct = await raw(directPort, hello);
    expect(direct.toString()).not.toContain("plain");
  });

  test("a real one over many records and segments is terminated (T11)", async () => {
    // A relay that cuts what passes into single bytes, and the first record into records of seven.
    const relay = createServer((client) => {
      const proxy = connect({ port: directPort, host: "127.0.0.1", noDelay: true });
      for (const socket of [client, proxy]) socket.on("error", () => {});
      let first = true;
      client.on("data", (chunk: Buffer) => {
        const bytes = first ? recut(chunk, 7) : chunk;
        first = false;
        for (let at = 0; at < bytes.length; at++) proxy.write(bytes.subarray(at, at + 1));
      });
      proxy.pipe(client);
      client.on("close", () => proxy.destroy());
    });
    relay.listen(0, "127.0.0.1");
    await once(relay, "listening");
    const leaf = await testCertificate({ sans: sansOf(CLIENT_NAME, undefined), issuer });
    const socket = connectTls({
      host: "127.0.0.1",
      port: (relay.address() as AddressInfo).port,
      servername: SERVER_NAME,
      ALPNProtocols: [ALPN],
      rejectUnauthorized: false,
      key: leaf.keyPem,
      cert: leaf.certificatePem + issuer.certificatePem,
    });
    socket.on("error", () => {});
    await Promise.race([once(socket, "secureConnect"), once(socket, "close")]);
    expect(socket.alpnProtocol).toBe(ALPN);
    socket.destroy();
    relay.close();
  });
});

/** One record as many. */
function recut(record: Buffer, size: number): Buffer {
  const body = record.subarray(5);
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; at += size) {
    const part = body.subarray(at, at + size);
    parts.push(record.subarray(0, 3), Buffer.of(part.length >> 8, part.length & 0xff), part);
  }
  return Buffer.concat(parts);
}

describe("certificates of servers", () => {
  /** A server in the place of the endpoint's proxy: what it heard inside TLS. */
  async function impostor(shown: Shown): Promise<{ port: number; heard: () => string; close: () => void }> {
    let heard = "";
    const server = createTls(
      {
        key: shown.leaf.keyPem,
        cert: pems(shown),
        ALPNProtocols: [ALPN],
        requestCert: true,
        rejectUnauthorized: false,
        ...CARELESS,
      },
      (socket) => {
        socket.on("error", () => {});
        socket.on("data", (chunk: Buffer) => {
          heard += chunk.toString("latin1");
        });
      },
    );
    server.on("tlsClientError", () => {});
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { port: (server.address() as AddressInfo).port, heard: () => heard, close: () => void server.close() };
  }

  async function asked(shown: Shown): Promise<string> {
    const server = await impostor(shown);
    const { hops } = await start({ meshPort: server.port });
    trust(hops.client);
    const socket = connect(hops.port, "127.0.0.1");
    socket.on("error", () => {});
    let answer = "";
    socket.on("data", (chunk: Buffer) => {
      answer += chunk.toString("latin1");
    });
    socket.write("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => server.heard().includes("PRI * HTTP/2.0") || answer !== "" || socket.destroyed, "it is decided");
    socket.destroy();
    server.close();
    hops.close();
    return server.heard();
  }

  test.each(kinds)("%s: taken %s (T19: a refused one hears nothing)", async (_what, good, make) => {
    const heard = await asked(await make(SERVER_NAME, SERVER_URI));
    if (good) expect(heard).toContain("PRI * HTTP/2.0");
    else expect(heard).toBe("");
  });

  test.each(nameless)("%s is not the endpoint", async (_what, sans) => {
    const leaf = await testCertificate({ name: SERVER_NAME, issuer, ...(sans === undefined ? {} : { sans }) });
    expect(await asked({ leaf, above: [issuer] })).toBe("");
  });

  test.each<[string, TestCertificateOptions]>([
    ["serverAuth missing (T05)", { usages: [CLIENT_AUTH] }],
    [
      "another workload of the same CA (T19)",
      { sans: [{ type: "url", value: "spiffe://cluster.local/ns/ns/sa/other" }] },
    ],
    [
      "the same path in another trust domain (T03)",
      { sans: [{ type: "url", value: "spiffe://other.local/ns/ns/sa/server" }] },
    ],
    ["a longer path (T03)", { sans: [{ type: "url", value: `${SERVER_URI}/x` }] }],
  ])("%s is not the endpoint", async (_what, options) => {
    const leaf = await testCertificate({ sans: sansOf(SERVER_NAME, SERVER_URI), issuer, ...options });
    expect(await asked({ leaf, above: [issuer] })).toBe("");
  });

  test("the name that is expected may be any of the certificate's", async () => {
    const leaf = await testCertificate({
      sans: [
        { type: "dns", value: "first.example" },
        { type: "url", value: SERVER_URI },
      ],
      issuer,
    });
    expect(await asked({ leaf, above: [issuer] })).toContain("PRI * HTTP/2.0");
  });
});

test("between our own peers the hybrid group is agreed on, in one flight each way (T11)", async () => {
  // Between the hops stands a relay that sees both first flights.
  let toServer: Buffer = Buffer.alloc(0);
  let toClient: Buffer = Buffer.alloc(0);
  let target = 0;
  const relay = createServer((client) => {
    const server: Socket = connect(target, "127.0.0.1");
    for (const socket of [client, server]) socket.on("error", () => {});
    client.on("data", (chunk: Buffer) => {
      toServer = Buffer.concat([toServer, chunk]);
      server.write(chunk);
    });
    server.on("data", (chunk: Buffer) => {
      toClient = Buffer.concat([toClient, chunk]);
      client.write(chunk);
    });
    client.on("close", () => server.destroy());
    server.on("close", () => client.destroy());
  });
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  closers.push(() => relay.close());
  const { hops } = await start({ meshPort: (relay.address() as AddressInfo).port });
  target = hops.directPort;
  expect((await fetch(`http://127.0.0.1:${hops.port}/`)).status).toBe(200);
  // key_share (51) of the ServerHello: X25519MLKEM768 is 0x11ec and its share 1,120 bytes.
  expect(toClient.indexOf(Buffer.of(0x00, 0x33, 0x04, 0x64, 0x11, 0xec, 0x04, 0x60))).toBeGreaterThan(0);
  // Offered first by the client, with its share: no second hello was asked for.
  expect(toServer.indexOf(Buffer.of(0x11, 0xec, 0x04, 0xc0))).toBeGreaterThan(0);
  expect(toServer.length).toBeGreaterThan(1_216);
});

describe("handshakes that go on", () => {
  test("while identities are renewed all succeed (T16)", async () => {
    const { hops } = await start();
    trust(hops.client);
    trust(hops.server);
    let failed = 0;
    let renewals = 0;
    const renew = setInterval(() => {
      for (const hop of [hops.client, hops.server]) trust(hop);
      renewals++;
    }, 5);
    const leaf = await testCertificate({ sans: sansOf(CLIENT_NAME, undefined), issuer });
    const handshake = () =>
      new Promise<boolean>((resolve) => {
        const socket = connectTls({
          host: "127.0.0.1",
          port: hops.directPort,
          servername: SERVER_NAME,
          ALPNProtocols: [ALPN],
          rejectUnauthorized: false,
          key: leaf.keyPem,
          cert: leaf.certificatePem + issuer.certificatePem,
        });
        socket.on("secureConnect", () => {
          resolve(true);
          socket.destroy();
        });
        socket.on("error", () => resolve(false));
        socket.on("close", () => resolve(false));
      });
    const ask = async () => {
      for (let i = 0; i < 20; i++) if (!(await handshake())) failed++;
    };
    await Promise.all(Array.from({ length: 6 }, ask));
    clearInterval(renew);
    expect(renewals).toBeGreaterThan(5);
    expect(failed).toBe(0);
  });

  test("given up at any stage they leave nothing behind (T13)", async () => {
    const { hops } = await start();
    const descriptors = () => readdirSync("/proc/self/fd").length;
    const hello = clientHello({ extensions: [serverName(SERVER_NAME), alpn(ALPN)], recordBytes: 100 });
    const before = descriptors();
    for (let round = 0; round < 20; round++) {
      const sockets = Array.from({ length: 30 }, (_, i) => {
        const socket = connect(hops.directPort, "127.0.0.1");
        socket.on("error", () => {});
        socket.once("connect", () => {
          socket.write(hello.subarray(0, Math.floor((hello.length * (i % 6)) / 5)));
          setImmediate(() => {
            if (i % 3 === 0) socket.resetAndDestroy();
            else if (i % 3 === 1) socket.destroy();
            else socket.end();
          });
        });
        socket.resume();
        return socket;
      });
      await Promise.all(sockets.map((socket) => socket.closed || once(socket, "close")));
    }
    await until(() => descriptors() <= before + 4, "no descriptor stays");
    expect((await fetch(`http://127.0.0.1:${hops.port}/`)).status).toBe(200);
  });
});
