import { createHash } from "node:crypto";
import {
  decodeJoinString,
  EnrollerClient,
  enrollerName,
  type Log,
  realScheduler,
  silentLog,
} from "../../src/bootstrap/control/index.ts";
import { type RunningEnroller, readyCondition, startEnroller } from "../../src/bootstrap/enroller/index.ts";
import { AttachClient, type AttachHandlers } from "../../src/bootstrap/host/index.ts";
import { type Enrolment, enrol } from "../../src/bootstrap/identity/index.ts";
import type { HostFacts } from "../../src/proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import type { WorkloadIdentity } from "../../src/proxy/core/identity.ts";
import { MemoryKube } from "./memory-kube.ts";
import { installMesh, invite, testTerms, workloadOf } from "./mesh-kube.ts";
import { type TestPair, testMeshCa } from "./test-ca.ts";
import { until } from "./until.ts";

export const VERSION = "0.1.0";
export const MESH = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" } as const;

export const machineOf = (text: string) => createHash("sha256").update(text).digest("hex");
export const factsOf = (machine: string, hostname = machine): HostFacts => ({
  $typeName: "meshagent.enroll.v1.HostFacts",
  machine: machineOf(machine),
  hostname,
  wallMs: BigInt(Date.now()),
});

/** An enroller over an API in memory, everything that it puts on record, and hosts to attack or to protect. */
export class EnrollerSite {
  readonly ca: { readonly root: TestPair; readonly issuer: TestPair };
  readonly kube = new MemoryKube();
  /** Lines of the audit log, in order. */
  readonly audit: Readonly<Record<string, unknown>>[] = [];
  readonly #enrollers: RunningEnroller[] = [];
  readonly #stops: (() => void)[] = [];

  private constructor(ca: EnrollerSite["ca"]) {
    this.ca = ca;
  }

  static async start(options: Partial<Parameters<typeof startEnroller>[0]> = {}): Promise<EnrollerSite> {
    const site = new EnrollerSite(await testMeshCa());
    await installMesh(site.kube, site.ca);
    await site.addReplica(options);
    return site;
  }

  async addReplica(options: Partial<Parameters<typeof startEnroller>[0]> = {}): Promise<RunningEnroller> {
    const keep: Log["info"] = (fields) => void (fields["audit"] !== undefined && this.audit.push(fields));
    const enroller = await startEnroller({
      client: this.kube,
      listen: { host: "127.0.0.1", port: 0 },
      version: VERSION,
      captureNetworks: ["10.43.0.0/16"],
      settleMs: { min: 20, max: 200 },
      log: { debug: () => {}, info: keep, warn: keep, error: keep },
      ...options,
    });
    this.#enrollers.push(enroller);
    return enroller;
  }

  get port(): number {
    return this.#enrollers[0]?.address.port ?? 0;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** What was refused, without the rest of the record. */
  get refused(): Readonly<Record<string, unknown>>[] {
    return this.audit.filter(({ audit }) => audit === "refused");
  }

  invite(overrides: Parameters<typeof testTerms>[0] = {}): Promise<string> {
    return invite(this.kube, testTerms(overrides), this.ca.root.certificatePem, this.address);
  }

  enrol(joinString: string, machine = "vm-1"): Promise<Enrolment> {
    const join = decodeJoinString(joinString);
    return enrol({ join, machine: machineOf(machine), hostname: machine, version: VERSION, wallMs: Date.now });
  }

  /** The raw calls, with an identity or without. */
  client(identity?: Pick<WorkloadIdentity, "keyPem" | "certificatePem">, address = this.address): EnrollerClient {
    const anchors = [this.ca.root.certificatePem];
    const client = new EnrollerClient(address, {
      serverName: enrollerName(MESH),
      trustAnchorsPem: () => anchors,
      certificate: () => identity,
    });
    this.#stops.push(() => client.close());
    return client;
  }

  /** Attaches as the agent does, and says that it is ready. */
  attach(enrolment: Enrolment, machine = "vm-1", handlers: AttachHandlers = {}): AttachClient {
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
    this.#stops.push(() => client.stop());
    client.start();
    client.setReadiness({ ready: true, reason: "", message: "" });
    return client;
  }

  async readiness(name: string): Promise<string> {
    const workload = await workloadOf(this.kube, name);
    const condition = workload && readyCondition(workload);
    return `${condition?.status} ${condition?.reason}`;
  }

  /** A host that is Ready. */
  async host(machine = "vm-1", overrides: Parameters<typeof testTerms>[0] = {}): Promise<Enrolment> {
    const enrolment = await this.enrol(await this.invite(overrides), machine);
    this.attach(enrolment, machine);
    const { name } = enrolment.configuration.workload;
    await until(async () => (await this.readiness(name)) === "True Attached", `${machine} is Ready`);
    return enrolment;
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) stop();
    for (const enroller of this.#enrollers.splice(0)) await enroller.stop(0);
  }
}
