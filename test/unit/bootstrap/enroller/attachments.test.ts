import { X509Certificate } from "node:crypto";
import { EventEmitter } from "node:events";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { keyFingerprint, type Peer, silentLog } from "../../../../src/bootstrap/control/index.ts";
import { type AttachCall, Attachments } from "../../../../src/bootstrap/enroller/attach.ts";
import { EXTERNAL_WORKLOADS, type ExternalWorkload, LEASES } from "../../../../src/bootstrap/enroller/index.ts";
import type { Mesh } from "../../../../src/bootstrap/enroller/mesh.ts";
import { planRegistration, type Registration, withCertificate } from "../../../../src/bootstrap/enroller/plan.ts";
import { RefusalRecord } from "../../../../src/bootstrap/enroller/refusal-record.ts";
import { Registrar } from "../../../../src/bootstrap/enroller/registrar.ts";
import { FakeScheduler, settle } from "../../../support/fake-scheduler.ts";
import { MemoryKube } from "../../../support/memory-kube.ts";
import { testTerms } from "../../../support/mesh-kube.ts";
import { testCertificate } from "../../../support/test-ca.ts";

const NAMES = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };
const IDENTITY = "legacy.shop.serviceaccount.identity.linkerd.cluster.local";
const MACHINE = "ab".repeat(32);
const GC_AFTER_MS = 600_000;

let certificate: X509Certificate;
let kube: MemoryKube;
let time: FakeScheduler;
let attachments: Attachments;
let registrar: Registrar;
let refused: unknown[];
let said: () => void;

beforeAll(async () => {
  const { certificatePem } = await testCertificate({ notAfterMs: 4_000_000_000_000 });
  certificate = new X509Certificate(certificatePem);
});

beforeEach(() => {
  kube = new MemoryKube();
  time = new FakeScheduler();
  refused = [];
  const record = (fields: Readonly<Record<string, unknown>>) => void (fields["code"] && refused.push(fields["code"]));
  const listeners = new Set<() => void>();
  said = () => {
    for (const listener of listeners) listener();
  };
  // As much of it as attaching asks for; every answer is another, so that each change of the mesh is told.
  let turn = 0;
  const mesh = {
    names: NAMES,
    trustAnchorsPem: [],
    issuer: { signed: () => true, sameAs: () => true },
    subscribe: (listener: () => void) => listeners.add(listener),
    configurationFor: ({ workload }: Registration) => ({
      ...NAMES,
      clusterDomain: `cluster-${++turn}.local`,
      clusterNetworks: [],
      captureNetworks: [],
      destination: { addresses: [], tlsName: "d" },
      policy: { addresses: [], tlsName: "d" },
      workload,
      ports: [],
      probes: [],
      opaquePorts: [],
      defaultInboundPolicy: "deny",
      policyToken: "{}",
      contextToken: "{}",
    }),
  } as unknown as Mesh;
  const shared = { client: kube, scheduler: time, log: silentLog };
  registrar = new Registrar({ ...shared, mesh: NAMES, settleMinMs: 10, settleMaxMs: 100 });
  attachments = new Attachments({
    ...shared,
    mesh,
    registrar,
    refusals: new RefusalRecord({
      log: { ...silentLog, info: record, warn: record },
      scheduler: time,
      shun: () => {},
    }),
    namespace: "linkerd",
    replica: "us",
    version: "0.1.0",
    heartbeatMs: 3000,
    gcAfterMs: GC_AFTER_MS,
  });
  attachments.start();
});

async function register(machine = MACHINE, more: Partial<Registration> = {}): Promise<Registration> {
  const key = keyFingerprint(certificate);
  const made = { ...planRegistration(testTerms(), "0123456789", machine, key, true), ...more };
  const ends = more.certificateEnds === undefined ? time.wallMs() + 3_600_000 : Date.parse(more.certificateEnds);
  await registrar.register(made.workload, () => withCertificate(made, key, ends));
  return made;
}

const names = async () =>
  (await kube.list<ExternalWorkload>(EXTERNAL_WORKLOADS, "shop")).map(({ metadata }) => metadata.name);

describe("a host that has been gone for too long", () => {
  it("is deleted after --gc-after, and not before", async () => {
    const { workload } = await register();
    await time.pass(GC_AFTER_MS - 120_000, 10_000);
    expect(await names()).toEqual([workload.name]);
    await time.pass(240_000, 10_000);
    expect(await names()).toEqual([]);
  });

  it("stays while another replica holds it", async () => {
    const { workload } = await register();
    await time.pass(1000);
    for (let renewal = 0; renewal < 90; renewal++) {
      await kube.apply(
        LEASES,
        "linkerd",
        {
          apiVersion: "coordination.k8s.io/v1",
          kind: "Lease",
          metadata: { name: `mesh-agent.shop.${workload.name}`, labels: { "mesh-agent/host": "true" } },
          spec: { holderIdentity: "other", renewTime: String(renewal) },
        } as never,
        "test",
      );
      await time.pass(10_000, 10_000);
    }
    expect(await names()).toEqual([workload.name]);
  });

  it("stays, revoked, until its last certificate has died: it is the memory of that", async () => {
    const certificateEnds = new Date(time.wallMs() + 2 * GC_AFTER_MS).toISOString();
    await register(MACHINE, { revoked: "stolen", certificateEnds });
    await time.pass(1.5 * GC_AFTER_MS, 10_000);
    expect(await names()).toHaveLength(1);
    await time.pass(GC_AFTER_MS, 10_000);
    expect(await names()).toEqual([]);
  });

  it("is left alone if somebody else keeps it", async () => {
    await kube.create(EXTERNAL_WORKLOADS, "shop", {
      apiVersion: "workload.linkerd.io/v1beta1",
      kind: "ExternalWorkload",
      metadata: { name: "by-hand" },
      spec: { meshTLS: { identity: "spiffe://x/y", serverName: "y" } },
      status: { conditions: [{ type: "Ready", status: "False", lastTransitionTime: "2001-01-01T00:00:00Z" }] },
    } as never);
    await time.pass(2 * GC_AFTER_MS, 10_000);
    expect(await names()).toEqual(["by-hand"]);
  });
});

/** A stream whose other end reads nothing. */
class DeafCall extends EventEmitter {
  readonly written: unknown[] = [];
  writable = true;
  ended = false;
  get writableLength(): number {
    return this.written.length;
  }
  write(message: unknown): void {
    this.written.push(message);
  }
  end(): void {
    this.ended = true;
  }
  pause(): void {}
  resume(): void {}
  getPath(): string {
    return "/meshagent.enroll.v1.Enroller/Attach";
  }
}

/** A host that has attached and says that it is ready. */
function attachHost({ workload }: Registration) {
  const call = new DeafCall();
  const peer: Peer = { identity: IDENTITY, certificate, address: "192.0.2.10" };
  attachments.open(call as unknown as AttachCall, peer);
  const { namespace, name } = workload;
  const state = { sequence: 1n, ready: true, reason: "", message: "", addresses: [] };
  const hello = { version: "0.1.0", namespace, name, host: { machine: MACHINE }, state };
  call.emit("data", { kind: { case: "hello", value: hello } });
  const ready = async () => {
    const object = await kube.get<ExternalWorkload>(EXTERNAL_WORKLOADS, namespace, name);
    return object?.status?.conditions?.find(({ type }) => type === "Ready")?.status;
  };
  /** Heartbeats for so long, at the usual rhythm. */
  const live = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 3000) {
      call.emit("data", { kind: { case: "heartbeat", value: state } });
      await time.pass(3000, 1000);
    }
  };
  return { call, ready, live };
}

describe("silence", () => {
  it("is noticed in time by a busy enroller, whose every look is half a second late", async () => {
    const { ready, live } = attachHost(await register());
    await live(66_000);
    expect(await ready()).toBe("True");
    const lookLate = async (looks: number) => {
      for (let look = 0; look < looks; look++) {
        time.stall(1500);
        await settle();
      }
    };
    await lookLate(4);
    expect(await ready()).toBe("True");
    await lookLate(2);
    expect(await ready()).toBe("False");
  });

  it("is nobody's while the enroller itself stood still: what was said waits to be read", async () => {
    const { ready, live } = attachHost(await register());
    await live(66_000);
    time.stall(60_000);
    await settle();
    expect(await ready()).toBe("True");
    await live(12_000);
    expect(await ready()).toBe("True");
    await time.pass(15_000, 1000);
    expect(await ready()).toBe("False");
  });
});

it("a host that is revoked gives back its lease: nobody renews it for a host that is gone", async () => {
  const made = await register();
  const { call } = attachHost(made);
  await time.pass(100);
  const leases = async () => (await kube.list(LEASES, "linkerd")).map(({ metadata }) => metadata.name);
  expect(await leases()).toEqual([`mesh-agent.shop.${made.workload.name}`]);
  await registrar.register(made.workload, (latest) => ({ ...(latest ?? made), revoked: "stolen" }));
  await time.pass(30_000, 1000);
  expect(call.ended).toBe(true);
  expect(await leases()).toEqual([]);
});

it("a host that reads nothing of what it is told is let go, with a bounded number of words kept for it", async () => {
  const { call } = attachHost(await register());
  const ends: unknown[] = [];
  call.on("error", (error) => ends.push(error));
  await time.pass(100);
  expect(attachments.counts().attached).toBe(1);
  for (let i = 0; i < 200; i++) said();
  expect(call.written.length).toBeLessThanOrEqual(64);
  expect(ends).toHaveLength(1);
  expect(refused).toEqual(["request-refused"]);
});

it("hosts of a replica that died are not judged while others of it still come", async () => {
  const late = await register("cd".repeat(32));
  const early = await register();
  const lease = (name: string, renewTime: string) =>
    kube.apply(
      LEASES,
      "linkerd",
      {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name: `mesh-agent.shop.${name}`, labels: { "mesh-agent/host": "true" } },
        spec: { holderIdentity: "other", renewTime },
      } as never,
      "test",
    );
  const ready = async () => {
    const all = await kube.list<ExternalWorkload>(EXTERNAL_WORKLOADS, "shop");
    return all.find(({ metadata }) => metadata.name === late.workload.name)?.status?.conditions?.[0]?.status;
  };
  const up = { ready: true, reason: "Attached", message: "" };
  registrar.wish("shop", late.workload.name, { readiness: up, addresses: ["192.0.2.11"] });
  // Old enough to judge at all.
  for (let second = 0; second < 70; second += 10) {
    await lease(late.workload.name, `${second}`);
    await lease(early.workload.name, `${second}`);
    await time.pass(10_000, 1000);
  }
  expect(await ready()).toBe("True");
  await time.pass(15_000, 1000);
  attachHost(early);
  // Thirty seconds after the last sign of life from there, less than ten after one of its hosts came.
  await time.pass(8_000, 1000);
  expect(await ready()).toBe("True");
  await time.pass(8_000, 1000);
  expect(await ready()).toBe("False");
});
