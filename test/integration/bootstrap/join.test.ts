import { createHash } from "node:crypto";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decodeJoinString, realScheduler, silentLog } from "../../../src/bootstrap/control/index.ts";
import { isReady, type RunningEnroller, readyCondition, startEnroller } from "../../../src/bootstrap/enroller/index.ts";
import { AttachClient, type AttachHandlers } from "../../../src/bootstrap/host/index.ts";
import { type Enrolment, enrol, generateKey, renew } from "../../../src/bootstrap/identity/index.ts";
import { MemoryKube } from "../../support/memory-kube.ts";
import { installMesh, invite, testTerms, workloadOf } from "../../support/mesh-kube.ts";
import { type TestPair, testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

const VERSION = "0.1.0";
const machineOf = (text: string) => createHash("sha256").update(text).digest("hex");

let ca: { root: TestPair; issuer: TestPair };
let kube: MemoryKube;
let enroller: RunningEnroller;
let address: string;
const clients: AttachClient[] = [];

beforeAll(async () => {
  ca = await testMeshCa();
});

beforeEach(async () => {
  kube = new MemoryKube();
  await installMesh(kube, ca);
  await start();
});

async function start(): Promise<void> {
  enroller = await startEnroller({
    client: kube,
    listen: { host: "127.0.0.1", port: 0 },
    version: VERSION,
    heartbeatMs: 100,
    settleMs: { min: 20, max: 200 },
    captureNetworks: ["10.43.0.0/16"],
    liveness: {
      silenceMs: 1500,
      suspectMs: 1000,
      partitionWindowMs: 1500,
      partitionMin: 3,
      graceMs: 0,
      holdMs: 10_000,
    },
  });
  address = `127.0.0.1:${enroller.address.port}`;
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.stop();
  await enroller.stop(100);
});

function join(text: string, machine = "vm-1", version = VERSION): Promise<Enrolment> {
  return enrol({
    join: decodeJoinString(text),
    machine: machineOf(machine),
    hostname: machine,
    version,
    wallMs: Date.now,
  });
}

function attach(enrolment: Enrolment, machine = "vm-1", handlers: AttachHandlers = {}): AttachClient {
  const client = new AttachClient({
    workload: enrolment.configuration.workload,
    mesh: enrolment.configuration,
    enrollers: enrolment.enrollers,
    identity: { current: () => enrolment.identity, subscribe: () => () => {} },
    machine: machineOf(machine),
    hostname: machine,
    version: VERSION,
    scheduler: realScheduler,
    log: silentLog,
    addresses: () => ["192.0.2.10"],
    handlers,
    backoff: { minMs: 50, maxMs: 100 },
  });
  clients.push(client);
  client.start();
  return client;
}

const readiness = async (name: string) => {
  const workload = await workloadOf(kube, name);
  return workload && readyCondition(workload);
};

describe("joining", () => {
  it("turns one line into an identity, a workload and its configuration", async () => {
    const text = await invite(kube, testTerms(), ca.root.certificatePem, address);
    const { identity, configuration, skewMs } = await join(text);
    expect(identity.name).toBe("legacy.shop.serviceaccount.identity.linkerd.cluster.local");
    expect(identity.uri).toBe("spiffe://cluster.local/ns/shop/sa/legacy");
    expect(Math.abs(skewMs)).toBeLessThan(1000);
    expect(configuration).toMatchObject({
      captureNetworks: ["10.43.0.0/16"],
      defaultInboundPolicy: "all-authenticated",
      opaquePorts: [3306],
      ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    });
    const { name } = configuration.workload;
    expect(configuration.policyToken).toBe(`{"ns":"shop","external_workload":"${name}"}`);
    const workload = await workloadOf(kube, name);
    expect(workload?.spec?.meshTLS).toEqual({ identity: identity.uri, serverName: identity.name });
    expect(workload?.metadata.annotations?.["config.linkerd.io/opaque-ports"]).toBe("3306");
    expect(workload && isReady(workload)).toBe(false);
  });

  it("attaches, becomes ready, and loses readiness with its probes", async () => {
    const enrolment = await join(await invite(kube, testTerms(), ca.root.certificatePem, address));
    const { name } = enrolment.configuration.workload;
    const states: boolean[] = [];
    const client = attach(enrolment, "vm-1", { registration: ({ ready }) => states.push(ready) });
    await until(() => client.state.kind === "attached", "attached");
    client.setReadiness({ ready: true, reason: "", message: "" });
    await until(async () => (await readiness(name))?.status === "True", "Ready");
    expect((await workloadOf(kube, name))?.spec?.workloadIPs).toEqual([{ ip: "192.0.2.10" }]);
    client.setReadiness({ ready: false, reason: "ProbeFailed", message: "port 8080: refused" });
    const condition = await until(async () => {
      const now = await readiness(name);
      return now?.status === "False" && now.reason === "ProbeFailed" ? now : undefined;
    }, "not ready");
    expect(condition.message).toBe("port 8080: refused");
    await until(() => states.includes(true) && states.at(-1) === false, "the host was told");
  });

  it("renews with a new key over mutual TLS, and attaches with it", async () => {
    const enrolment = await join(await invite(kube, testTerms(), ca.root.certificatePem, address));
    const { configuration, enrollers, identity } = enrolment;
    const again = await renew({
      identity,
      workload: configuration.workload,
      mesh: configuration,
      enrollers,
      version: VERSION,
      machine: machineOf("vm-1"),
      wallMs: Date.now,
    });
    expect(again.generation).toBe(2);
    expect(again.keyPem).not.toBe(identity.keyPem);
    expect(again.name).toBe(identity.name);
    const client = attach({ ...enrolment, identity: again });
    await until(() => client.state.kind === "attached", "attached");
  });

  it("leaves: readiness first, then the workload is deleted, never while Ready", async () => {
    const enrolment = await join(await invite(kube, testTerms(), ca.root.certificatePem, address));
    const { name } = enrolment.configuration.workload;
    const client = attach(enrolment);
    client.setReadiness({ ready: true, reason: "", message: "" });
    await until(async () => (await readiness(name))?.status === "True", "Ready");
    await client.leave(false);
    expect((await readiness(name))?.reason).toBe("Left");
    await client.leave(true);
    expect(await workloadOf(kube, name)).toBeUndefined();
    expect(client.state.kind).toBe("ended");
  });

  it("withdraws a host that falls silent", async () => {
    const enrolment = await join(await invite(kube, testTerms(), ca.root.certificatePem, address));
    const { name } = enrolment.configuration.workload;
    const client = attach(enrolment);
    client.setReadiness({ ready: true, reason: "", message: "" });
    await until(async () => (await readiness(name))?.status === "True", "Ready");
    client.stop();
    const condition = await until(async () => {
      const now = await readiness(name);
      return now?.status === "False" ? now : undefined;
    }, "withdrawn");
    expect(condition.reason).toBe("HostUnreachable");
  });
});

describe("what is refused", () => {
  it("a spent invitation, but not the repetition of a lost answer", async () => {
    const text = await invite(kube, testTerms(), ca.root.certificatePem, address);
    const key = generateKey();
    const ask = () =>
      enrol({
        join: decodeJoinString(text),
        machine: machineOf("vm-1"),
        hostname: "vm-1",
        version: VERSION,
        wallMs: Date.now,
        key,
      });
    const first = await ask();
    const second = await ask();
    expect(second.configuration.workload).toEqual(first.configuration.workload);
    await expect(join(text, "vm-2")).rejects.toMatchObject({ code: "invitation-spent", exitCode: 65 });
  });

  it("an expired, an unknown and a forged invitation", async () => {
    const expired = await invite(kube, testTerms({ expiresAtMs: Date.now() - 1000 }), ca.root.certificatePem, address);
    await expect(join(expired)).rejects.toMatchObject({ code: "invitation-expired", exitCode: 65 });
    const text = await invite(kube, testTerms(), ca.root.certificatePem, address);
    const forged = decodeJoinString(text);
    forged.secret.fill(7);
    await expect(
      enrol({ join: forged, machine: machineOf("x"), hostname: "x", version: VERSION, wallMs: Date.now }),
    ).rejects.toMatchObject({ code: "invitation-wrong" });
  });

  it("a join from a network that the invitation does not allow", async () => {
    const text = await invite(kube, testTerms({ from: ["10.0.0.0/8"] }), ca.root.certificatePem, address);
    await expect(join(text)).rejects.toMatchObject({ code: "invitation-network", exitCode: 77 });
  });

  it("an enroller that shows another root than the pinned one: the secret is not sent", async () => {
    const other = await testMeshCa();
    const text = await invite(kube, testTerms(), other.root.certificatePem, address);
    await expect(join(text)).rejects.toMatchObject({ code: "pin-mismatch", exitCode: 77 });
    kube.writes.length = 0;
    expect(kube.writes).toEqual([]);
  });

  it("an address where nobody listens", async () => {
    const text = await invite(kube, testTerms(), ca.root.certificatePem, "127.0.0.1:1");
    await expect(join(text)).rejects.toMatchObject({ code: "unreachable", exitCode: 69 });
  });

  it("a host with a wrong clock, before a use is spent", async () => {
    const text = await invite(kube, testTerms(), ca.root.certificatePem, address);
    const at = (wallMs: () => number) =>
      enrol({ join: decodeJoinString(text), machine: machineOf("vm-1"), hostname: "vm-1", version: VERSION, wallMs });
    await expect(at(() => Date.now() + 600_000)).rejects.toMatchObject({ code: "clock-skew", exitCode: 75 });
    await at(Date.now);
  });

  it("versions too far apart, with both named", async () => {
    const text = await invite(kube, testTerms(), ca.root.certificatePem, address);
    await expect(join(text, "vm-1", "0.3.0")).rejects.toThrow(/0\.3\.0.*0\.1\.0/);
  });

  it("a clone: the same certificate on another machine", async () => {
    const enrolment = await join(await invite(kube, testTerms(), ca.root.certificatePem, address));
    let refused: string | undefined;
    attach(enrolment, "vm-2", { refused: (error) => (refused = error.code) });
    expect(await until(() => refused, "refused")).toBe("clone");
  });

  it("the sibling's name with one's own key", async () => {
    const text = await invite(kube, testTerms({ uses: 2 }), ca.root.certificatePem, address);
    const one = await join(text, "vm-1");
    const two = await join(text, "vm-2");
    expect(one.identity.name).toBe(two.identity.name);
    let refused: string | undefined;
    attach({ ...two, configuration: one.configuration }, "vm-1", { refused: (error) => (refused = error.code) });
    expect(await until(() => refused, "refused")).toBe("clone");
  });

  it("the older process, when a newer one of the same machine attaches", async () => {
    const enrolment = await join(await invite(kube, testTerms(), ca.root.certificatePem, address));
    let superseded = false;
    const old = attach(enrolment, "vm-1", { superseded: () => (superseded = true) });
    await until(() => old.state.kind === "attached", "attached");
    const fresh = attach(enrolment);
    await until(() => superseded, "superseded");
    expect(fresh.state.kind).toBe("attached");
    expect(old.state.kind).toBe("ended");
  });
});
