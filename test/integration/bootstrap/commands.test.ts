import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { decodeJoinString } from "../../../src/bootstrap/control/index.ts";
import {
  EXTERNAL_WORKLOADS,
  GROUPS,
  groupDefinition,
  installObjects,
  type KubeObject,
} from "../../../src/bootstrap/enroller/index.ts";
import { loadKubeClient } from "../../../src/bootstrap/enroller/kubernetes-client.ts";
import { kubeconfig, type LabApi, LabKubeClient, LabStore, selfSigned, startApi } from "../../../src/lab/api/index.ts";
import { INSTALL, put } from "../../support/cluster-site.ts";
import { installMesh } from "../../support/mesh-kube.ts";
import { testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

let api: LabApi;
let store: LabStore;
let seed: LabKubeClient;
let directory: string;
let config: string;

beforeAll(async () => {
  store = new LabStore();
  seed = new LabKubeClient(store);
  for (const name of ["linkerd", "shop"]) {
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name } };
    await seed.create({ group: "", version: "v1", plural: "namespaces" }, undefined, namespace);
  }
  await installMesh(seed, await testMeshCa());
  const definitions = { group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions" };
  await seed.create(definitions, undefined, groupDefinition({}) as KubeObject);
  const tls = await selfSigned(["127.0.0.1"]);
  api = await startApi(store, { listen: [{ host: "127.0.0.1", port: 0 }], tls, token: "admin" });
  directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  config = join(directory, "kubeconfig");
  const server = `https://127.0.0.1:${api.ports[0]}`;
  writeFileSync(config, kubeconfig({ server, certificateAuthority: tls.cert, token: "admin" }));
});

afterAll(async () => {
  await api.close();
  rmSync(directory, { recursive: true });
});

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function agent(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["src/agent/main.ts", ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk;
    });
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk;
    });
    child.on("close", (status) => resolve({ status, out, err }));
  });
}

let groups = 0;
// A group of its own each time: what an earlier one said must not count.
const invite = (...more: readonly string[]) =>
  agent(
    "invite",
    `legacy-app-${++groups}`,
    "-n",
    "shop",
    "--kubeconfig",
    config,
    "--enroller",
    "enroll.example.com:4145",
    ...more,
  );

it("invite prints one join string and nothing else, notes go elsewhere", async () => {
  const { status, out, err } = await invite("--port", "http=8080", "--port", "db=3306", "--probe", "http:8080/healthz");
  expect(err).toContain("ServiceAccount shop/legacy-app-1 does not exist");
  expect(status).toBe(0);
  expect(out).toMatch(/^mj1\.\S+\n$/);
  expect(decodeJoinString(out).enrollers).toEqual(["enroll.example.com:4145"]);
});

it("invite says as JSON what it made", async () => {
  const { out } = await invite("--port", "db=3306", "--uses", "5", "--from", "10.0.0.0/8", "-o", "json");
  const made = JSON.parse(out) as { terms: { opaquePorts: number[]; uses: number; from: string[] } };
  expect(made.terms).toMatchObject({ opaquePorts: [3306], uses: 5, from: ["10.0.0.0/8"] });
});

it.each([
  [2, ["--port", "http=notaport"], "--port http=notaport: expected NAME=NUMBER"],
  [2, ["--expires", "soon"], "--expires soon"],
  [2, ["--from", "everywhere"], "everywhere"],
  [64, ["--kubeconfig", "/nonexistent"], "no cluster"],
  [64, ["--linkerd-namespace", "shop"], "is Linkerd installed there?"],
])("invite ends with %i and one line for %j", async (wanted, args, words) => {
  const { status, out, err } = await invite(...args);
  expect(err).toContain(words);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect(status).toBe(wanted);
  expect(out).toBe("");
});

it("invite ends with 69 when nobody answers", async () => {
  const file = join(directory, "nowhere");
  writeFileSync(file, kubeconfig({ server: "https://127.0.0.1:1", token: "x" }));
  const { status, err } = await invite("--kubeconfig", file);
  expect(err).toContain("does not answer");
  expect(status).toBe(69);
});

it("cluster install prints documents that kubectl can read", async () => {
  const { status, out } = await agent("cluster", "install", "--capture", "10.43.0.0/16", "10.42.0.0/16");
  expect(status).toBe(0);
  const documents = parseAllDocuments(out).map((document) => document.toJS() as { kind: string; spec?: unknown });
  expect(documents.map(({ kind }) => kind)).toEqual([
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "Role",
    "ClusterRole",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "Deployment",
    "Service",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "ConfigMap",
  ]);
  expect(JSON.stringify(documents)).toContain('"--capture","10.43.0.0/16","10.42.0.0/16"');
});

it("invite --dry-run prints the group to commit and asks no cluster", async () => {
  const args = ["invite", "dry", "-n", "shop", "--port", "http=8080", "--probe", "http:8080/ok", "--max-hosts", "4"];
  const nowhere = ["--kubeconfig", "/nonexistent"];
  const { status, out, err } = await agent(...args, "--approval", "Manual", "--dry-run", "-o", "yaml", ...nowhere);
  expect(status).toBe(0);
  expect(err).toContain("nothing was made");
  expect(parseAllDocuments(out).map((document) => document.toJS())).toEqual([
    {
      apiVersion: "mesh-agent.io/v1alpha1",
      kind: "ExternalWorkloadGroup",
      metadata: { name: "dry", namespace: "shop" },
      spec: {
        template: {
          serviceAccountName: "dry",
          ports: [{ name: "http", port: 8080, protocol: "TCP" }],
          probes: [{ httpGet: { port: 8080, path: "/ok" } }],
        },
        admission: { maxHosts: 4, approval: "Manual" },
      },
    },
  ]);
  // Applied as it is, it is the group that the same words invite into.
  await seed.create(GROUPS, "shop", parseAllDocuments(out)[0]?.toJS() as KubeObject);
  const same = await agent(...args, "--enroller", "192.0.2.1:4145", "--kubeconfig", config);
  expect(same.out).toMatch(/^mj1/);
  expect(same.err).not.toContain("made the group");
  const plain = await agent("invite", "dry", "-n", "shop", "--enroller", "192.0.2.1:4145", "--kubeconfig", config);
  expect(plain.out).toMatch(/^mj1/);
});

it("invite --from is refused where nobody can tell the source", async () => {
  const service = (spec: object, annotations = {}) =>
    ({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "mesh-agent-enroller", namespace: "linkerd", annotations },
      spec: { ports: [{ name: "enroll", port: 4145 }], ...spec },
    }) as KubeObject;
  const services = { group: "", version: "v1", plural: "services" };
  const tell = async (spec: object, annotations = {}) => {
    store.put(services, service(spec, annotations));
    return await invite("--from", "10.0.0.0/8");
  };
  const cluster = await tell({ type: "LoadBalancer", externalTrafficPolicy: "Cluster" });
  expect(cluster.err).toContain("externalTrafficPolicy: Cluster");
  expect(cluster.status).toBe(2);
  expect((await tell({ type: "ClusterIP" })).err).toContain("of type ClusterIP");
  expect((await tell({ type: "LoadBalancer", externalTrafficPolicy: "Local" })).status).toBe(0);
  expect((await tell({ type: "ClusterIP" }, { "mesh-agent/proxy-protocol": "true" })).status).toBe(0);
  // What the Service says is where hosts dial, unless told otherwise.
  const annotations = { "mesh-agent/external-address": "enroll.example.org:443" };
  store.put(services, service({ type: "ClusterIP" }, annotations));
  const { out } = await agent("invite", "addressed", "-n", "shop", "--kubeconfig", config);
  expect(decodeJoinString(out).enrollers).toEqual(["enroll.example.org:443"]);
  await seed.delete(services, "linkerd", "mesh-agent-enroller");
});

it("cluster revoke knows only hosts that an enroller keeps", async () => {
  const { status, err } = await agent("cluster", "revoke", "shop/nobody", "--kubeconfig", config);
  expect(err).toContain("there is no host shop/nobody");
  expect(status).toBe(64);
});

it("invitations are listed without their secret and can be taken back", async () => {
  const made = await agent(
    "invite",
    "listed",
    "-n",
    "shop",
    "--enroller",
    "192.0.2.1:4145",
    "--kubeconfig",
    config,
    "-o",
    "json",
  );
  const { id, joinString } = JSON.parse(made.out) as { id: string; joinString: string };
  const listed = await agent("invite", "list", "--kubeconfig", config, "-o", "json");
  expect(listed.out).not.toContain(joinString);
  const found = (JSON.parse(listed.out) as { id: string }[]).find((each) => each.id === id);
  expect(found).toMatchObject({ group: "shop/listed", state: "open", used: 0, uses: 1 });
  expect((await agent("invite", "revoke", id, "--kubeconfig", config)).status).toBe(0);
  const again = await agent("invite", "revoke", id, "--kubeconfig", config);
  expect(again.status).toBe(64);
  expect(again.err).toContain(`there is no invitation ${id}`);
});

it("an enroller tells Prometheus what it watches over, and says who has its port", async () => {
  const taken = createServer();
  taken.listen(0, "127.0.0.1");
  await once(taken, "listening");
  const admin = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
  const args = ["enroller", "--kubeconfig", config, "--listen", "127.0.0.1:0", "--capture", "10.0.0.0/8"];
  const refused = await agent(...args, "--admin", admin);
  expect(refused.status).toBe(64);
  expect(refused.err).toContain(`${admin} is taken`);
  expect(refused.err).toContain("stop what listens there, or change --admin");
  await new Promise((resolve) => taken.close(resolve));

  const child = spawn(process.execPath, ["src/agent/main.ts", ...args, "--admin", admin], { stdio: "ignore" });
  try {
    const get = (path: string) => fetch(`http://${admin}${path}`).catch(() => undefined);
    await until(async () => (await get("/ready"))?.status === 200, "the enroller is ready", 30_000);
    const page = await (await get("/metrics"))?.text();
    expect(page).toMatch(/^mesh_agent_enroller_hosts\{state="attached"\} 0$/m);
    expect(page).toMatch(/^mesh_agent_enroller_hosts\{state="held"\} 0$/m);
    expect(page).toMatch(/^process_resident_memory_bytes [1-9]/m);
    expect((await get("/live"))?.status).toBe(200);
    expect((await get("/elsewhere"))?.status).toBe(404);
    expect((await fetch(`http://${admin}/metrics`, { method: "POST" })).status).toBe(405);
  } finally {
    child.kill();
    await once(child, "close");
  }
});

it("cluster uninstall takes back what install and invite wrote, once no host is left", async () => {
  const place = ["--kubeconfig", config];
  await agent("invite", "left", "-n", "shop", "--enroller", "192.0.2.1:4145", ...place);
  for (const object of installObjects(INSTALL)) await put(loadKubeClient({ kubeconfig: config }), object);
  const host = {
    apiVersion: "workload.linkerd.io/v1beta1",
    kind: "ExternalWorkload",
    metadata: { name: "vm", namespace: "shop", labels: { "mesh-agent/managed": "true" } },
    spec: { meshTLS: { identity: "spiffe://td/vm", serverName: "vm" } },
  };
  await seed.create(EXTERNAL_WORKLOADS, "shop", host as KubeObject);
  const refused = await agent("cluster", "uninstall", ...place);
  expect(refused.err).toContain("1 hosts are still registered: shop/vm");
  expect(refused.status).toBe(64);
  await seed.delete(EXTERNAL_WORKLOADS, "shop", "vm");
  const { status, out } = await agent("cluster", "uninstall", ...place);
  expect(out).toContain("deleted Deployment linkerd/mesh-agent-enroller\n");
  expect(out).toContain("deleted ExternalWorkloadGroup shop/left\n");
  expect(status).toBe(0);
  // Nothing anywhere speaks of us any more.
  const left = store
    .resources()
    .flatMap(({ group, versions, plural }) => store.list({ group, version: versions[0], plural }))
    .filter((object) => /mesh-agent/.test(`${object.metadata.name} ${JSON.stringify(object.metadata.labels)}`));
  expect(left.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([]);
  expect((await agent("cluster", "uninstall", ...place, "-o", "json")).out).toContain('"deleted": []');
});
