import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { decodeJoinString, realScheduler, silentLog } from "../../../src/bootstrap/control/index.ts";
import {
  createInvitation,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  groupDefinition,
  isReady,
  KubeError,
  type KubeObject,
  revokeHost,
  SECRETS,
  startEnroller,
  type WatchEvent,
} from "../../../src/bootstrap/enroller/index.ts";
import { type KubernetesClient, loadKubeClient } from "../../../src/bootstrap/enroller/kubernetes-client.ts";
import { AttachClient } from "../../../src/bootstrap/host/index.ts";
import { enrol } from "../../../src/bootstrap/identity/index.ts";
import { kubeconfig, type LabApi, LabKubeClient, LabStore, selfSigned, startApi } from "../../../src/lab/api/index.ts";
import { installMesh, testTerms } from "../../support/mesh-kube.ts";
import { testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

let store: LabStore;
let api: LabApi;
let client: KubernetesClient;
let directory: string;
const stops: (() => unknown)[] = [];

beforeEach(async () => {
  store = new LabStore();
  const pair = await selfSigned(["127.0.0.1"]);
  api = await startApi(store, {
    listen: [{ host: "127.0.0.1", port: 0 }],
    tls: { cert: pair.cert, key: pair.key },
    token: "secret-token",
  });
  directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  const file = join(directory, "kubeconfig");
  writeFileSync(
    file,
    kubeconfig({ server: `https://127.0.0.1:${api.ports[0]}`, certificateAuthority: pair.cert, token: "secret-token" }),
  );
  client = loadKubeClient({ kubeconfig: file });
});

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
  await api.close();
  rmSync(directory, { recursive: true });
});

it("reads, writes, watches and says what went wrong", async () => {
  await new LabKubeClient(store).create({ group: "", version: "v1", plural: "namespaces" }, undefined, {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "shop" },
  });
  expect(await client.get(SECRETS, "shop", "none")).toBeUndefined();
  const events: WatchEvent<ExternalWorkload>[] = [];
  stops.push(client.watch<ExternalWorkload>(EXTERNAL_WORKLOADS, undefined, (event) => events.push(event)));
  await until(() => events.some(({ type }) => type === "SYNCED"), "synced");
  const wanted = {
    apiVersion: "workload.linkerd.io/v1beta1",
    kind: "ExternalWorkload",
    metadata: { name: "vm", namespace: "shop" },
    spec: {
      meshTLS: { identity: "spiffe://td/ns/shop/sa/vm", serverName: "vm.shop" },
      workloadIPs: [{ ip: "192.0.2.1" }],
    },
  } as const;
  const created = await client.apply<ExternalWorkload>(EXTERNAL_WORKLOADS, "shop", wanted, "test");
  expect(created.metadata.uid).toBeDefined();
  await client.apply<ExternalWorkload>(
    EXTERNAL_WORKLOADS,
    "shop",
    { ...wanted, spec: undefined, status: { conditions: [{ type: "Ready", status: "True" }] } } as never,
    "test",
    "status",
  );
  const changed = await until(() => events.find((event) => event.type === "MODIFIED"), "watched");
  expect("object" in changed && isReady(changed.object)).toBe(true);
  expect(await client.list(EXTERNAL_WORKLOADS, "shop")).toHaveLength(1);
  // Another writer came first: the version that the plan was made from is gone.
  const stale = {
    ...wanted,
    metadata: { ...wanted.metadata, resourceVersion: created.metadata.resourceVersion ?? "" },
  };
  const conflict = await client
    .apply<ExternalWorkload>(EXTERNAL_WORKLOADS, "shop", stale, "test")
    .catch((error: unknown) => error);
  expect(conflict).toBeInstanceOf(KubeError);
  expect((conflict as KubeError).code).toBe(409);
  await client.delete(EXTERNAL_WORKLOADS, "shop", "vm");
  await client.delete(EXTERNAL_WORKLOADS, "shop", "vm");
  await until(() => events.some(({ type }) => type === "DELETED"), "deleted");
});

it("carries a host from invitation to revocation", async () => {
  const seed = new LabKubeClient(store);
  for (const name of ["linkerd", "shop"]) {
    await seed.create({ group: "", version: "v1", plural: "namespaces" }, undefined, {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name },
    });
  }
  const definitions = { group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions" };
  await seed.create(definitions, undefined, groupDefinition({}) as KubeObject);
  await installMesh(seed, await testMeshCa());
  const enroller = await startEnroller({
    client,
    listen: { host: "127.0.0.1", port: 0 },
    version: "0.1.0",
    heartbeatMs: 200,
    settleMs: { min: 20, max: 500 },
    captureNetworks: ["10.43.0.0/16"],
  });
  stops.push(() => enroller.stop(100));
  const { joinString, warnings } = await createInvitation(client, {
    namespace: "linkerd",
    terms: testTerms({ opaquePorts: [] }),
    enrollers: [`127.0.0.1:${enroller.address.port}`],
  });
  expect(warnings.join()).toContain("ServiceAccount shop/legacy does not exist");
  const machine = createHash("sha256").update("vm").digest("hex");
  const enrolment = await enrol({
    join: decodeJoinString(joinString),
    machine,
    hostname: "vm",
    version: "0.1.0",
    wallMs: Date.now,
  });
  let revoked: string | undefined;
  const host = new AttachClient({
    workload: enrolment.configuration.workload,
    mesh: enrolment.configuration,
    enrollers: enrolment.enrollers,
    identity: { current: () => enrolment.identity, subscribe: () => () => {} },
    machine,
    hostname: "vm",
    version: "0.1.0",
    scheduler: realScheduler,
    log: silentLog,
    addresses: () => ["192.0.2.10"],
    handlers: { shutdownIdentity: (message) => (revoked = message) },
  });
  stops.push(() => host.stop());
  host.start();
  host.setReadiness({ ready: true, reason: "", message: "" });
  const { namespace, name } = enrolment.configuration.workload;
  const ready = async () => {
    const workload = await client.get<ExternalWorkload>(EXTERNAL_WORKLOADS, namespace, name);
    return workload !== undefined && isReady(workload);
  };
  await until(ready, "Ready");
  const ends = await revokeHost(client, enrolment.configuration, { namespace, name }, "stolen");
  expect(Date.parse(ends ?? "")).toBe(enrolment.identity.notAfterMs);
  await until(() => revoked, "the order arrived");
  expect(revoked).toContain("stolen");
  await until(async () => !(await ready()), "withdrawn");
});
