/** What a host tries that is in the mesh and went bad, or whose certificate somebody copied. */

import { X509Certificate } from "node:crypto";
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type AttachStream, enrollerName } from "../../../src/bootstrap/control/index.ts";
import { EXTERNAL_WORKLOADS, LEASES, SERVICES } from "../../../src/bootstrap/enroller/index.ts";
import { revokeHost } from "../../../src/bootstrap/enroller/revoke.ts";
import { certificationRequest, type Enrolment, generateKey, renew } from "../../../src/bootstrap/identity/index.ts";
import { Enroller, type EnrollerMessage } from "../../../src/proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import { grpcService } from "../../../src/proto/grpc.ts";
import type { WorkloadIdentity } from "../../../src/proxy/core/identity.ts";
import { EnrollerSite, factsOf, MESH, machineOf, VERSION } from "../../support/enroller-site.ts";
import { workloadOf } from "../../support/mesh-kube.ts";
import { testCertificate, testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

let site: EnrollerSite;

beforeEach(async () => {
  site = await EnrollerSite.start();
});
afterEach(() => site.stop());

const codes = () => site.refused.map(({ code }) => code);
const outcome = (call: Promise<unknown>) =>
  call.then(
    () => "done",
    (error: { code: string }) => error.code,
  );

function renewAs(identity: { keyPem: string; certificatePem: string }, of: Enrolment, machine = ""): Promise<string> {
  const { namespace, name } = of.configuration.workload;
  const csr = certificationRequest(generateKey());
  return outcome(site.client(identity).renew({ version: VERSION, csr, namespace, name, machine }));
}

/** A raw Attach stream: what it heard, and the code it ended with. */
function open(of: Enrolment, machine = "vm-1", workload = of.configuration.workload) {
  const stream: AttachStream = site.client(of.identity).attach();
  const heard: string[] = [];
  let ended: string | undefined;
  stream.on("data", ({ kind }: EnrollerMessage) => heard.push(kind.case ?? ""));
  stream.on("error", (error: { metadata?: { get(key: string): unknown[] }; code?: number }) => {
    ended = String(error.metadata?.get("mesh-agent-code")[0] ?? `status ${error.code}`);
  });
  stream.on("end", () => (ended ??= "ended"));
  const { namespace, name } = workload;
  const state = { sequence: 1n, ready: true, reason: "", message: "", addresses: ["192.0.2.10"] };
  stream.write({
    kind: { case: "hello", value: { version: VERSION, namespace, name, host: factsOf(machine), state } },
  });
  return { stream, heard, ended: () => ended };
}

/** A message as gRPC frames it. */
function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** A connection on which anything may be said. */
function connectTo(address: string, { keyPem, certificatePem, trustAnchorsPem }: WorkloadIdentity): tls.TLSSocket {
  return tls.connect({
    host: "127.0.0.1",
    port: Number(address.split(":").at(-1)),
    servername: enrollerName(MESH),
    key: keyPem,
    cert: certificatePem,
    ca: [...trustAnchorsPem],
    ALPNProtocols: ["h2"],
  });
}

describe("a renewal", () => {
  it("with a certificate of another mesh is refused", async () => {
    const host = await site.host();
    const other = await testMeshCa();
    const sans = [
      { type: "dns" as const, value: host.identity.name },
      { type: "url" as const, value: host.identity.uri ?? "" },
    ];
    const foreign = await testCertificate({ issuer: other.issuer, sans });
    const certificatePem = foreign.certificatePem + other.issuer.certificatePem;
    // OpenSSL may end the connection itself: it takes our root, which has the same name, for the foreign one's.
    expect(["no-identity", "unreachable"]).toContain(await renewAs({ keyPem: foreign.keyPem, certificatePem }, host));
    await until(() => site.refused.length > 0, "the record");
    expect(site.refused).toMatchObject([{ address: "127.0.0.1", identity: "nobody" }]);
    expect(["no-identity", "request-refused"]).toContain(codes()[0]);
  });

  it("with a certificate that has run out is refused", async () => {
    const host = await site.host();
    const sans = [{ type: "dns" as const, value: host.identity.name }];
    const old = await testCertificate({ issuer: site.ca.issuer, sans, notAfterMs: Date.now() - 1000 });
    const certificatePem = old.certificatePem + site.ca.issuer.certificatePem;
    expect(await renewAs({ keyPem: old.keyPem, certificatePem }, host)).toBe("no-identity");
    expect(codes()).toEqual(["no-identity"]);
  });

  it("after revocation is refused; so are names and attaching, while the certificate lives on", async () => {
    const host = await site.host();
    const { workload } = host.configuration;
    await revokeHost(site.kube, MESH, workload, "stolen");
    await until(async () => (await site.readiness(workload.name)) === "False Revoked", "withdrawn");
    expect(await renewAs(host.identity, host)).toBe("revoked");
    expect(await outcome(site.client(host.identity).resolve({ name: "web.shop.svc.cluster.local" }))).toBe("revoked");
    const { ended } = open(host);
    expect(await until(ended, "the stream's end")).toBe("revoked");
    expect(codes()).toEqual(["revoked", "revoked", "revoked"]);
    expect(new X509Certificate(host.identity.certificatePem).validToDate.getTime()).toBeGreaterThan(Date.now());
  });

  it("with a key that was certified for nobody, under a name of the mesh, is refused", async () => {
    const host = await site.host();
    const sans = [{ type: "dns" as const, value: host.identity.name }];
    const pod = await testCertificate({ issuer: site.ca.issuer, sans });
    const certificatePem = pod.certificatePem + site.ca.issuer.certificatePem;
    expect(await renewAs({ keyPem: pod.keyPem, certificatePem }, host)).toBe("clone");
    expect(codes()).toEqual(["clone"]);
  });

  it("over and over meets a limit, before anything is signed", async () => {
    const host = await site.host();
    let { identity } = host;
    const { configuration, enrollers } = host;
    const again = () =>
      renew({
        identity,
        workload: configuration.workload,
        mesh: configuration,
        enrollers,
        version: VERSION,
        machine: machineOf("vm-1"),
        wallMs: Date.now,
      });
    const outcomes: string[] = [];
    for (let i = 0; i < 8; i++) {
      outcomes.push(
        await outcome(
          again().then((next) => {
            identity = next;
          }),
        ),
      );
    }
    expect(outcomes).toEqual([...Array(6).fill("done"), "rate-limited", "rate-limited"]);
    expect(codes()).toEqual(["rate-limited", "rate-limited"]);
  });
});

describe("one certificate on two machines", () => {
  it("neither attaches nor renews from the second, and the first goes on", async () => {
    const host = await site.host();
    const { ended } = open(host, "copy");
    expect(await until(ended, "the stream's end")).toBe("clone");
    for (let i = 0; i < 3; i++) expect(await renewAs(host.identity, host, machineOf("copy"))).toBe("clone");
    expect(codes()).toEqual(["clone", "clone", "clone", "clone"]);
    expect(site.refused[0]).toMatchObject({ identity: host.identity.name, address: "127.0.0.1" });
    expect(await renewAs(host.identity, host, machineOf("vm-1"))).toBe("done");
    expect(await site.readiness(host.configuration.workload.name)).toBe("True Attached");
  });
});

describe("a host that floods Attach", () => {
  it("with messages is cut, and nobody else notices", async () => {
    const bystander = await site.host("vm-0");
    const bad = await site.enrol(await site.invite());
    const { stream, ended, heard } = open(bad);
    await until(() => heard.includes("welcome"), "attached");
    site.kube.writes.length = 0;
    for (let i = 0; i < 20_000 && ended() === undefined; i++) {
      const value = { sequence: BigInt(i), ready: i % 2 === 0, reason: "Flood", message: `${i}`, addresses: [] };
      stream.write({ kind: { case: "heartbeat", value } });
      if (i % 500 === 0) await sleep(1);
    }
    expect(await until(ended, "cut")).toBe("rate-limited");
    expect(site.refused).toMatchObject([{ code: "rate-limited", why: expect.stringContaining("too many messages") }]);
    expect(site.kube.writes.length).toBeLessThan(30);
    expect(await site.readiness(bystander.configuration.workload.name)).toBe("True Attached");
  });

  it("with streams has one, and meets a limit", async () => {
    const bad = await site.enrol(await site.invite());
    const streams = Array.from({ length: 60 }, () => open(bad));
    await until(() => streams.filter(({ ended }) => ended() !== undefined).length === 59, "all but one have ended");
    expect(streams.some(({ ended }) => ended() === "rate-limited")).toBe(true);
    expect(codes().every((code) => code === "rate-limited")).toBe(true);
    expect(codes().length).toBeGreaterThan(0);
  });

  it.each([
    ["of more than 64 KiB", (): Buffer => frame(Buffer.alloc(65 * 1024)), "larger than max"],
    ["announced with 4 GiB", (): Buffer => Buffer.from([0, 0xff, 0xff, 0xff, 0xff]), "larger than max"],
    ["that is no protobuf", (): Buffer => frame(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x0f, 1])), "deserializing"],
    ["of a compression that we do not know", (): Buffer => Buffer.from([1, 0, 0, 0, 1, 0]), "unsupported"],
  ])("with a message %s is cut, and on record with its name", async (_, bytes, why) => {
    const host = await site.host();
    const { enrollers, identity } = host;
    const session = http2.connect("https://enroller", {
      createConnection: () => connectTo(enrollers[0] ?? "", identity),
    });
    session.on("error", () => {});
    const path = "/meshagent.enroll.v1.Enroller/Attach";
    const call = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      "grpc-encoding": "br",
      te: "trailers",
    });
    let ended = false;
    call.on("error", () => {});
    call.on("data", () => {});
    call.on("end", () => {
      ended = true;
    });
    const { namespace, name } = host.configuration.workload;
    const state = { sequence: 1n, ready: true, reason: "", message: "", addresses: ["192.0.2.10"] };
    const { attach } = grpcService(Enroller);
    const hello = { version: VERSION, namespace, name, host: factsOf("vm-1"), state };
    call.write(frame(attach.requestSerialize({ kind: { case: "hello", value: hello } })));
    await until(async () => (await site.readiness(name)) === "True Attached", "attached");
    call.write(bytes());
    await until(() => ended, "the stream's end");
    session.destroy();
    await until(() => site.refused.length > 0, "the record");
    expect(site.refused).toMatchObject([
      { call: path, code: "request-refused", identity: identity.name, why: expect.stringContaining(why) },
    ]);
  });

  it("with huge addresses, reasons and messages leaves what a condition may hold", async () => {
    const bad = await site.enrol(await site.invite());
    const { stream, heard, ended } = open(bad);
    await until(() => heard.includes("welcome"), "attached");
    const { name } = bad.configuration.workload;
    const addresses = Array.from({ length: 2000 }, (_, i) => `192.0.2.${i}; drop`);
    const message = `\u001b[2J\r\nReady=True \u2028${"😀".repeat(2000)}`;
    stream.write({
      kind: { case: "heartbeat", value: { sequence: 2n, ready: false, reason: "Not A Reason\n", message, addresses } },
    });
    const condition = await until(async () => {
      const now = (await workloadOf(site.kube, name))?.status?.conditions?.[0];
      return now?.status === "False" && now.reason === "Unknown" ? now : undefined;
    }, "written down");
    expect(condition.message?.length).toBeLessThanOrEqual(1024);
    expect(condition.message).toMatch(/^[^\u0000-\u001f\u2028]*$/);
    expect((await workloadOf(site.kube, name))?.spec?.workloadIPs ?? []).toHaveLength(0);
    expect(ended()).toBeUndefined();
    // More than a message may have: the stream ends.
    const large = { sequence: 3n, ready: false, reason: "x".repeat(100_000), message: "", addresses: [] };
    stream.write({ kind: { case: "heartbeat", value: large } });
    await until(ended, "the stream's end");
  });

  it("with a name that is none is answered in few words", async () => {
    const bad = await site.enrol(await site.invite());
    const workload = { ...bad.configuration.workload, name: `\u001b[2J😀${"a".repeat(30_000)}` };
    const { ended } = open(bad, "vm-1", workload);
    expect(await until(ended, "the stream's end")).toBe("unknown-workload");
    expect(String(site.refused[0]?.["why"]).length).toBeLessThan(200);
    expect(String(site.refused[0]?.["why"])).not.toContain("\u001b");
  });
});

it("a flood of questions for names ends in silence for that certificate alone", { timeout: 30_000 }, async () => {
  const bystander = await site.host("vm-0");
  const bad = await site.enrol(await site.invite());
  const client = site.client(bad.identity);
  const outcomes = new Map<string, number>();
  for (let round = 0; round < 120 && !outcomes.has("unreachable"); round++) {
    const asked = Array.from({ length: 30 }, (_, i) =>
      outcome(client.resolve({ name: `n${round}-${i}.shop.svc.cluster.local` })),
    );
    for (const said of await Promise.all(asked)) outcomes.set(said, (outcomes.get(said) ?? 0) + 1);
  }
  expect([...outcomes.keys()].sort()).toEqual(["done", "rate-limited", "unreachable"]);
  expect(site.audit.filter(({ audit }) => audit === "shunned")).toMatchObject([{ identity: bad.identity.name }]);
  // The same name, the same address, another certificate.
  expect(await outcome(site.client(bystander.identity).resolve({ name: "web.shop.svc.cluster.local" }))).toBe("done");
  expect(await site.readiness(bystander.configuration.workload.name)).toBe("True Attached");
});

describe("a host that wants to know of another", () => {
  it.each([
    ["in its own group", {}, "clone"],
    ["of another account", { name: "billing", serviceAccount: "billing" }, "unknown-workload"],
    ["of another namespace", { namespace: "bank", name: "ledger" }, "unknown-workload"],
    ["that does not exist", undefined, "unknown-workload"],
  ])("%s neither attaches nor renews as it", async (_which, terms, code) => {
    const bad = await site.host();
    const victim = terms === undefined ? undefined : await site.enrol(await site.invite(terms), "victim");
    const workload = victim?.configuration.workload ?? { ...bad.configuration.workload, name: "nobody-01234567" };
    const { ended, heard } = open(bad, "victim", workload);
    expect(await until(ended, "the stream's end")).toBe(code);
    expect(heard).toEqual([]);
    const { namespace, name } = workload;
    const csr = certificationRequest(generateKey());
    const asked = site
      .client(bad.identity)
      .renew({ version: VERSION, csr, namespace, name, machine: machineOf("victim") });
    expect(await outcome(asked)).toBe(code);
    expect(codes()).toEqual([code, code]);
    // What is not its own account's might as well not exist.
    if (code === "unknown-workload")
      expect(site.refused[0]?.["why"]).toBe(`there is no workload ${namespace}/${name} for this identity`);
  });

  it("learns addresses of Services and nothing else of the API", async () => {
    const bad = await site.host();
    await site.kube.create(SERVICES, "shop", {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", labels: { secret: "label" } },
      spec: { clusterIP: "10.43.0.7", ports: [{ port: 80 }] },
    } as never);
    const client = site.client(bad.identity);
    expect(await client.resolve({ name: "web.shop.svc.cluster.local" })).toMatchObject({
      exists: true,
      addresses: ["10.43.0.7"],
    });
    const reads: string[] = [];
    site.kube.fault = (call) => void reads.push(call);
    for (const name of [
      "linkerd-identity-issuer.linkerd.secret.cluster.local",
      "linkerd-config.linkerd.svc.cluster.local",
      "../../secrets/linkerd-identity-issuer.linkerd.svc.cluster.local",
      "web%2F..%2Fsecrets.shop.svc.cluster.local",
      "web.shop.svc.cluster.local.evil.example",
      "10-43-0-7.shop.pod.cluster.local",
      "",
      ".svc.cluster.local",
      "a".repeat(30_000),
    ]) {
      expect(await client.resolve({ name })).toMatchObject({ exists: false, addresses: [] });
    }
    // Nothing but Services was asked for, and only by names that are none of anything else.
    expect(reads.filter((call) => !call.includes("externalworkloads") && !call.includes("leases"))).toEqual([
      "get services linkerd/linkerd-config",
    ]);
    site.kube.fault = undefined;
  });

  it("changes no status, lease or object but its own", async () => {
    const victim = await site.host("victim");
    const before = {
      workload: await workloadOf(site.kube, victim.configuration.workload.name),
      lease: await site.kube.get(LEASES, "linkerd", `mesh-agent.shop.${victim.configuration.workload.name}`),
    };
    const bad = await site.host("vm-1", { uses: 1 });
    site.kube.writes.length = 0;
    const { stream, heard } = open(bad);
    await until(() => heard.includes("welcome"), "attached");
    stream.write({
      kind: {
        case: "heartbeat",
        value: { sequence: 2n, ready: false, reason: "X", message: "", addresses: ["192.0.2.10"] },
      },
    });
    await until(async () => (await site.readiness(bad.configuration.workload.name)) === "False X", "its own");
    stream.write({ kind: { case: "leave", value: { delete: true } } });
    await until(async () => (await workloadOf(site.kube, bad.configuration.workload.name)) === undefined, "deleted");
    const own = bad.configuration.workload.name;
    expect(site.kube.writes.filter((write) => !write.includes(own) && !write.includes("leases"))).toEqual([]);
    expect(
      site.kube.writes.filter(
        (write) =>
          write.includes("leases") && !write.includes(own) && !write.includes(victim.configuration.workload.name),
      ),
    ).toEqual([]);
    expect(await workloadOf(site.kube, victim.configuration.workload.name)).toEqual(before.workload);
    expect((await site.kube.list(EXTERNAL_WORKLOADS, "shop")).length).toBe(1);
    expect(before.lease).toBeDefined();
  });
});
