import "reflect-metadata";
import { webcrypto, X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import tls from "node:tls";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ChannelCredentials, Client, type ClientReadableStream, type ServiceError, status } from "@grpc/grpc-js";
import * as x509 from "@peculiar/x509";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { meshCredentials } from "../../../src/bootstrap/control/index.ts";
import { KINDS, type Linkerd, startLinkerd } from "../../../src/lab/linkerd/index.ts";
import type { Service } from "../../../src/lab/linkerd/objects.ts";
import { Authority, type Credentials, createPki, type LabPki } from "../../../src/lab/pki.ts";
import { destination, type GrpcMethod, grpcService, identity, inbound, outbound } from "../../../src/proto/index.ts";
import { MemoryCluster } from "../../support/memory-cluster.ts";
import { externalWorkload, pod, service, slice } from "../../support/mesh-objects.ts";

const { certify } = grpcService(identity.Identity);
const { get, getProfile } = grpcService(destination.Destination);
const { getPort, watchPort } = grpcService(inbound.InboundServerPolicies);
const { get: getOutbound } = grpcService(outbound.OutboundPolicies);

const NAME = "vm.ns.serviceaccount.identity.linkerd.cluster.local";
const TOKENS: Readonly<Record<string, string>> = {
  good: "system:serviceaccount:ns:vm",
  other: "system:serviceaccount:ns:other",
  dotted: "system:serviceaccount:ns:a.b",
};

let pki: LabPki;
let cluster: MemoryCluster;
let linkerd: Linkerd;
const clients: Client[] = [];

beforeAll(async () => {
  pki = await createPki();
});

beforeEach(async () => {
  cluster = new MemoryCluster();
  linkerd = await startLinkerd({
    store: cluster,
    pki,
    review(token, audiences) {
      if (token === "broken") throw new Error("no API server");
      if (token === "silent") return { authenticated: false, error: "" };
      if (token === "api" && audiences.length > 0) return { authenticated: false, error: "token audiences invalid" };
      const username = TOKENS[token === "api" ? "good" : token];
      return username === undefined
        ? { authenticated: false, error: "invalid bearer token" }
        : { authenticated: true, username };
    },
    listen: { host: "127.0.0.1", identityPort: 0, destinationPort: 0, policyPort: 0, inboundPort: 0 },
  });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await linkerd.close();
});

/** A channel as any gRPC library makes it: it offers h2 by ALPN, and gets none. */
function dial({ port }: AddressInfo, name: string, credentials?: Credentials, root = pki.root): Client {
  const [key, chain] = credentials ? [Buffer.from(credentials.keyPem), Buffer.from(credentials.certificatePem)] : [];
  const ssl = ChannelCredentials.createSsl(Buffer.from(root.certificatePem), key ?? null, chain ?? null);
  const options = { "grpc.ssl_target_name_override": name, "grpc.default_authority": name };
  const client = new Client(`127.0.0.1:${port}`, ssl, { ...options, "grpc.use_local_subchannel_pool": 1 });
  clients.push(client);
  return client;
}

function dialDestination(credentials?: Credentials): Client {
  return dial(linkerd.addresses.destination, linkerd.destinationName, credentials);
}

function dialPolicy(): Client {
  return dial(linkerd.addresses.policy, linkerd.destinationName);
}

function ask<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: GrpcMethod<I, O>,
  request: MessageInitShape<I>,
): Promise<MessageShape<O>> {
  const options = { deadline: Date.now() + 5000 };
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      options,
      (error, answer) => (error || answer === undefined ? reject(error) : resolve(answer)),
    );
  });
}

/** A server stream that is read one message at a time. */
class Reader<M> {
  readonly #stream: ClientReadableStream<M>;
  readonly #seen: M[] = [];
  #end: number | undefined;
  #wake: () => void = () => {};

  constructor(stream: ClientReadableStream<M>) {
    this.#stream = stream;
    stream.on("data", (message: M) => {
      this.#seen.push(message);
      this.#wake();
    });
    stream.on("error", () => {});
    stream.on("status", ({ code }: { readonly code: number }) => {
      this.#end = code;
      this.#wake();
    });
  }

  /** @throws Error if the stream ends before. */
  async next(): Promise<M> {
    await this.#until(() => this.#seen.length > 0 || this.#end !== undefined);
    const message = this.#seen.shift();
    if (message === undefined) throw new Error(`stream ended with ${this.#end}`);
    return message;
  }

  async end(): Promise<number> {
    await this.#until(() => this.#end !== undefined);
    return this.#end as number;
  }

  get waiting(): number {
    return this.#seen.length;
  }

  cancel(): void {
    this.#stream.cancel();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

function watch<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: GrpcMethod<I, O>,
  request: MessageInitShape<I>,
): Reader<MessageShape<O>> {
  return new Reader(
    client.makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, request),
  );
}

interface CsrWish {
  readonly dns?: readonly string[];
  readonly uri?: readonly string[];
  readonly commonName?: string;
  readonly rsa?: boolean;
}

async function csr({ dns = [NAME], uri = [], commonName, rsa = false }: CsrWish = {}): Promise<Buffer> {
  const algorithm = rsa
    ? { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1) }
    : { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
  const names = [
    ...dns.map((value) => ({ type: "dns" as const, value })),
    ...uri.map((value) => ({ type: "url" as const, value })),
  ];
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      keys,
      signingAlgorithm: algorithm,
      ...(commonName !== undefined && { name: `CN=${commonName}` }),
      extensions: names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : [],
    },
    webcrypto as Crypto,
  );
  return Buffer.from(request.rawData);
}

describe("mesh TLS", () => {
  const port = { workload: "ns:nobody", port: 80 };

  test("a client without a certificate is welcome", async () => {
    await expect(ask(dialPolicy(), getPort, port)).rejects.toMatchObject({ code: status.NOT_FOUND });
  });

  test("a client with a good certificate is welcome", async () => {
    const credentials = await pki.issuer.issue({ dns: [NAME] });
    const client = dial(linkerd.addresses.policy, linkerd.destinationName, credentials);
    await expect(ask(client, getPort, port)).rejects.toMatchObject({ code: status.NOT_FOUND });
  });

  test("a forged certificate is refused, whatever it says", async () => {
    const forger = await Authority.root("root.linkerd.cluster.local");
    const client = dial(linkerd.addresses.policy, linkerd.destinationName, await forger.issue({ dns: [NAME] }));
    await expect(ask(client, getPort, port)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  test("another name in SNI ends the handshake", async () => {
    const { port: at } = linkerd.addresses.policy;
    const ca = pki.root.certificatePem;
    const servername = linkerd.identityName;
    const socket = tls.connect({ host: "127.0.0.1", port: at, ca, servername, minVersion: "TLSv1.3" });
    await expect(once(socket, "secureConnect")).rejects.toThrow();
  });

  test("no ALPN is negotiated, and the pod proves its name", async () => {
    const { port: at } = linkerd.addresses.identity;
    const ca = pki.root.certificatePem;
    const servername = linkerd.identityName;
    const socket = tls.connect({ host: "127.0.0.1", port: at, ca, servername, ALPNProtocols: ["h2"] });
    await once(socket, "secureConnect");
    expect(socket.authorized).toBe(true);
    expect(socket.alpnProtocol).toBe(false);
    expect(socket.getProtocol()).toBe("TLSv1.3");
    socket.destroy();
  });
});

describe("through the proxy port", () => {
  function direct(credentials: Credentials | undefined, throughPort: number, serverName: string): Client {
    const { port } = linkerd.addresses.inbound;
    const channel = meshCredentials({
      serverName,
      trustAnchorsPem: () => pki.trustAnchorsPem,
      certificate: () => credentials,
      throughPort,
    });
    const client = new Client(`ipv4:127.0.0.1:${port}`, channel, { "grpc.default_authority": serverName });
    clients.push(client);
    return client;
  }

  test("the header's port chooses the service", async () => {
    cluster.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.9"));
    const credentials = await pki.issuer.issue({ dns: [NAME] });
    const policy = direct(credentials, 8090, linkerd.destinationName);
    const { labels } = await ask(policy, getPort, { workload: '{"ns":"ns","external_workload":"vm"}', port: 80 });
    expect(labels["name"]).toBe("all-unauthenticated");
    const names = direct(credentials, 8086, linkerd.destinationName);
    expect((await watch(names, getProfile, { path: "10.0.0.9:8080" }).next()).endpoint?.addr?.port).toBe(8080);
    const wrong = watch(names, get, { path: "nobody.ns.svc.cluster.local:80" });
    expect(await wrong.end()).toBe(status.NOT_FOUND);
  });

  test("the identity pod has a port of its own, and only that", async () => {
    const credentials = await pki.issuer.issue({ dns: [NAME] });
    const request = { identity: NAME, token: Buffer.from("good"), certificateSigningRequest: await csr() };
    const answer = await ask(direct(credentials, 8080, linkerd.identityName), certify, request);
    expect(answer.leafCertificate.length).toBeGreaterThan(0);
    const elsewhere = ask(direct(credentials, 8090, linkerd.identityName), getPort, { workload: "a:b", port: 1 });
    await expect(elsewhere).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  test("a client without a certificate is refused", async () => {
    const answer = ask(direct(undefined, 8090, linkerd.destinationName), getPort, { workload: "a:b", port: 1 });
    await expect(answer).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });
});

describe("Certify", () => {
  async function call(token: string, wish: CsrWish = {}, name = NAME, request?: Uint8Array) {
    const client = dial(linkerd.addresses.identity, linkerd.identityName);
    const certificateSigningRequest = request ?? (await csr(wish));
    return ask(client, certify, { identity: name, token: Buffer.from(token), certificateSigningRequest });
  }

  test("issues a leaf that peers accept", async () => {
    const before = Date.now();
    const answer = await call("good", { commonName: NAME });
    const leaf = new X509Certificate(answer.leafCertificate);
    const [issuer, ...more] = answer.intermediateCertificates.map((der) => new X509Certificate(der));
    expect(more).toEqual([]);
    expect(issuer?.raw.equals(pki.issuer.certificate.raw)).toBe(true);
    expect(leaf.checkIssued(pki.issuer.certificate)).toBe(true);
    expect(leaf.subjectAltName).toBe(`DNS:${NAME}`);
    expect(leaf.subject).toBe(`CN=${NAME}`);
    const endMs = Number(answer.validUntil?.seconds) * 1000;
    expect(leaf.validToDate.getTime()).toBe(endMs);
    expect(endMs - before).toBeGreaterThanOrEqual(86_400_000 + 19_000);
    expect(leaf.validFromDate.getTime()).toBeLessThanOrEqual(before - 19_000);
  });

  test("takes tokens for the API server as well", async () => {
    expect((await call("api")).leafCertificate.length).toBeGreaterThan(0);
  });

  test.each([
    ["no identity", "good", {}, "", undefined, status.INVALID_ARGUMENT],
    ["no token", "", {}, NAME, undefined, status.INVALID_ARGUMENT],
    ["no request", "good", {}, NAME, new Uint8Array(), status.INVALID_ARGUMENT],
    ["garbage", "good", {}, NAME, Uint8Array.of(0x30, 1, 0), status.INVALID_ARGUMENT],
    ["two DNS names", "good", { dns: [NAME, "b"] }, NAME, undefined, status.FAILED_PRECONDITION],
    ["no DNS name", "good", { dns: [] }, NAME, undefined, status.FAILED_PRECONDITION],
    ["another DNS name", "good", { dns: ["b"] }, NAME, undefined, status.FAILED_PRECONDITION],
    ["another common name", "good", { commonName: "b" }, NAME, undefined, status.FAILED_PRECONDITION],
    ["a URI name", "good", { uri: ["spiffe://a/b"] }, NAME, undefined, status.FAILED_PRECONDITION],
    ["a review that fails", "broken", {}, NAME, undefined, status.INTERNAL],
    ["a bad token", "bad", {}, NAME, undefined, status.INVALID_ARGUMENT],
    ["an unexplained refusal", "silent", {}, NAME, undefined, status.FAILED_PRECONDITION],
    ["an account with a dot", "dotted", {}, NAME, undefined, status.INVALID_ARGUMENT],
    ["somebody else's token", "other", {}, NAME, undefined, status.FAILED_PRECONDITION],
    ["an RSA key", "good", { rsa: true }, NAME, undefined, status.INTERNAL],
  ] as const)("refuses %s", async (_, token, wish, name, request, code) => {
    await expect(call(token, wish, name, request)).rejects.toMatchObject({ code });
  });

  test("refuses PEM, which the schema promises", async () => {
    const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${(await csr()).toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
    await expect(call("good", {}, NAME, Buffer.from(pem))).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
  });

  test("is unavailable without an issuer, and uses a new one at once", async () => {
    linkerd.loseIssuer();
    await expect(call("good")).rejects.toMatchObject({ code: status.UNAVAILABLE });
    const issuer = await pki.root.issuer("identity.linkerd.cluster.local");
    await linkerd.setPki({ issuer, trustAnchorsPem: pki.trustAnchorsPem });
    const leaf = new X509Certificate((await call("good")).leafCertificate);
    expect(leaf.checkIssued(issuer.certificate)).toBe(true);
  });

  test("an expired issuer is code Unknown", async () => {
    const notAfterMs = Date.now() - 1000;
    const issuer = await pki.root.issuer("old", { notBeforeMs: notAfterMs - 60_000, notAfterMs });
    const client = dial(linkerd.addresses.identity, linkerd.identityName);
    // A connection from before: new handshakes would find the server's certificate expired as well.
    await new Promise((resolve) => client.waitForReady(Date.now() + 5000, resolve));
    await linkerd.setPki({ issuer, trustAnchorsPem: pki.trustAnchorsPem });
    const request = { identity: NAME, token: Buffer.from("good"), certificateSigningRequest: await csr() };
    await expect(ask(client, certify, request)).rejects.toMatchObject({ code: status.UNKNOWN });
  });
});

describe("Get", () => {
  const path = "web.ns.svc.cluster.local:80";
  const vm = externalWorkload("vm", "10.0.0.9");
  /** The last octets of the addresses in an update. */
  const addrs = ({ update }: destination.Update): readonly number[] => {
    if (update.case === "noEndpoints" || update.case === undefined) return [];
    const all = update.case === "add" ? update.value.addrs.map(({ addr }) => addr) : update.value.addrs;
    return all.map((addr) => (addr?.ip?.ip.case === "ipv4" ? addr.ip.ip.value & 0xff : -1));
  };

  test.each([
    ["nobody.ns.svc.cluster.local:80", status.NOT_FOUND],
    ["10.96.0.1:80", status.INVALID_ARGUMENT],
    ["example.com:80", status.INVALID_ARGUMENT],
    ["web.ns.svc.cluster.local.:80", status.INVALID_ARGUMENT],
    ["web.ns.svc.cluster.local:0", status.INVALID_ARGUMENT],
    ["out.ns.svc.cluster.local:80", status.INVALID_ARGUMENT],
  ])("%s is refused", async (bad, code) => {
    cluster.put(KINDS.services, service("web", 1));
    const external: Service = { ...service("out", 2), spec: { type: "ExternalName", externalName: "example.com" } };
    cluster.put(KINDS.services, external);
    expect(await watch(dialDestination(), get, { path: bad }).end()).toBe(code);
  });

  test("follows readiness, but is not told of a new address while ready", async () => {
    cluster.put(KINDS.services, service("web", 1));
    cluster.put(KINDS.externalWorkloads, vm);
    const client = dialDestination();
    const updates = watch(client, get, { path });
    // Nothing at all comes for a Service without endpoints; the profile on the same connection proves that time passed.
    await watch(client, getProfile, { path: "10.96.0.1:80" }).next();
    expect(updates.waiting).toBe(0);

    cluster.put(KINDS.endpointSlices, slice("web", [vm]));
    const first = await updates.next();
    expect(first.update.case).toBe("add");
    expect(addrs(first)).toEqual([9]);

    const moved = externalWorkload("vm", "10.0.0.10");
    cluster.put(KINDS.externalWorkloads, moved);
    cluster.put(KINDS.endpointSlices, slice("web", [moved]));
    const fresh = watch(client, get, { path });
    expect(addrs(await fresh.next())).toEqual([10]);
    expect(updates.waiting).toBe(0);

    cluster.put(KINDS.endpointSlices, slice("web", [moved], false));
    const removed = await updates.next();
    expect(removed.update.case).toBe("remove");
    // What is true by now, and not what this client was told: it keeps the old address for good.
    expect(addrs(removed)).toEqual([10]);
    expect(addrs(await fresh.next())).toEqual([10]);

    cluster.put(KINDS.endpointSlices, slice("web", [moved]));
    expect(addrs(await updates.next())).toEqual([10]);
  });

  test("changes of one turn are one message; a cancelled stream stops listening", async () => {
    const [a, b] = [pod("a", "10.1.0.1"), pod("b", "10.1.0.2")];
    cluster.put(KINDS.services, service("web", 1));
    const client = dialDestination();
    const updates = watch(client, get, { path });
    await watch(client, getProfile, { path: "10.96.0.1:80" }).next();
    cluster.put(KINDS.pods, a);
    cluster.put(KINDS.pods, b);
    cluster.put(KINDS.endpointSlices, slice("web", [a]));
    cluster.put(KINDS.endpointSlices, slice("web", [a, b]));
    expect(addrs(await updates.next())).toEqual([1, 2]);
    const before = cluster.listeners;
    updates.cancel();
    await updates.end();
    await expect.poll(() => cluster.listeners).toBe(before - 1);
  });
});

describe("WatchPort", () => {
  const workload = '{"ns":"ns","external_workload":"vm"}';

  test("sends changes, nothing without a change, and ends with the workload", async () => {
    cluster.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.9"));
    const client = dialPolicy();
    const policies = watch(client, watchPort, { workload, port: 8080 });
    expect((await policies.next()).labels).toMatchObject({ kind: "default", name: "all-unauthenticated" });

    // A change that means nothing for this port.
    cluster.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.10"));
    const annotations = { "config.linkerd.io/default-inbound-policy": "deny" };
    const other = watch(client, watchPort, { workload, port: 8081 });
    await other.next();
    expect(policies.waiting).toBe(0);

    cluster.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.10", annotations));
    expect((await policies.next()).labels["name"]).toBe("deny");

    cluster.delete(KINDS.externalWorkloads, "ns", "vm");
    expect(await policies.end()).toBe(status.OK);
    expect(await watch(client, watchPort, { workload, port: 8080 }).end()).toBe(status.NOT_FOUND);
  });

  test.each([
    [workload, 0],
    [workload, 65_536],
    ["{}", 80],
    ["vm", 80],
    [":vm", 80],
    [" {}", 80],
  ])("workload %j, port %d is an invalid argument", async (bad, port) => {
    const error: ServiceError = await ask(dialPolicy(), getPort, { workload: bad, port }).catch((reason) => reason);
    expect(error.code).toBe(status.INVALID_ARGUMENT);
  });
});

describe("OutboundPolicies", () => {
  const sourceWorkload = '{"ns":"ns","external_workload":"vm"}\n';
  const at = (value: number, port: number) =>
    ({ sourceWorkload, target: { case: "addr", value: { ip: { ip: { case: "ipv4", value } }, port } } }) as const;

  test("knows Services, forbids their other ports, and falls back outside of the cluster", async () => {
    cluster.put(KINDS.services, service("web", 1));
    const client = dialPolicy();
    const known = await ask(client, getOutbound, at(0x0a600001, 80));
    expect(known.protocol?.kind.case).toBe("detect");
    const forbidden = await ask(client, getOutbound, at(0x0a600001, 81));
    expect(forbidden.protocol?.kind.case).toBe("opaque");
    const outside = await ask(client, getOutbound, at(0x08080808, 443));
    expect(outside.metadata?.kind).toEqual({ case: "default", value: "egress-fallback" });
    await expect(ask(client, getOutbound, at(0x0a010101, 80))).rejects.toMatchObject({ code: status.NOT_FOUND });
  });
});

describe("faults", () => {
  test("a killed service loses its streams and comes back on its port", async () => {
    cluster.put(KINDS.services, service("web", 1));
    const { port } = linkerd.addresses.destination;
    const client = dialDestination();
    const profile = watch(client, getProfile, { path: "10.96.0.1:80" });
    await profile.next();
    await linkerd.kill("destination");
    expect(await profile.end()).toBe(status.UNAVAILABLE);
    await expect.poll(() => cluster.listeners).toBe(0);
    expect(await watch(client, getProfile, { path: "10.96.0.1:80" }).end()).toBe(status.UNAVAILABLE);

    await linkerd.restart("destination");
    expect(linkerd.addresses.destination.port).toBe(port);
    expect((await watch(dialDestination(), getProfile, { path: "10.96.0.1:80" }).next()).fullyQualifiedName).toBe(
      "web.ns.svc.cluster.local",
    );
  });
});

afterAll(() => {
  expect(clients).toEqual([]);
});
