import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { decodeJoinString } from "../../../src/bootstrap/control/index.ts";
import { kubeconfig, type LabApi, LabKubeClient, LabStore, selfSigned, startApi } from "../../../src/lab/api/index.ts";
import { installMesh } from "../../support/mesh-kube.ts";
import { testMeshCa } from "../../support/test-ca.ts";

let api: LabApi;
let directory: string;
let config: string;

beforeAll(async () => {
  const store = new LabStore();
  const seed = new LabKubeClient(store);
  for (const name of ["linkerd", "shop"]) {
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name } };
    await seed.create({ group: "", version: "v1", plural: "namespaces" }, undefined, namespace);
  }
  await installMesh(seed, await testMeshCa());
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

const invite = (...more: readonly string[]) =>
  agent("invite", "legacy-app", "-n", "shop", "--kubeconfig", config, "--enroller", "enroll.example.com:4145", ...more);

it("invite prints one join string and nothing else, notes go elsewhere", async () => {
  const { status, out, err } = await invite("--port", "http=8080", "--port", "db=3306", "--probe", "http:8080/healthz");
  expect(err).toContain("ServiceAccount shop/legacy-app does not exist");
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
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Deployment",
    "Service",
    "PodDisruptionBudget",
    "Role",
    "NetworkPolicy",
    "ConfigMap",
  ]);
  expect(JSON.stringify(documents)).toContain('"--capture","10.43.0.0/16","10.42.0.0/16"');
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
  const listed = await agent("invitations", "list", "--kubeconfig", config, "-o", "json");
  expect(listed.out).not.toContain(joinString);
  const found = (JSON.parse(listed.out) as { id: string }[]).find((each) => each.id === id);
  expect(found).toMatchObject({ group: "shop/listed", state: "open", used: 0, uses: 1 });
  expect((await agent("invitations", "revoke", id, "--kubeconfig", config)).status).toBe(0);
  const again = await agent("invitations", "revoke", id, "--kubeconfig", config);
  expect(again.status).toBe(64);
  expect(again.err).toContain(`there is no invitation ${id}`);
});

it("cluster uninstall takes back what install and invite wrote", async () => {
  await agent("invite", "left", "-n", "shop", "--enroller", "192.0.2.1:4145", "--kubeconfig", config);
  const { status, out } = await agent("cluster", "uninstall", "--kubeconfig", config);
  expect(out).toContain("are gone");
  expect(status).toBe(0);
  expect((await agent("invitations", "list", "--kubeconfig", config, "-o", "json")).out.trim()).toBe("[]");
});
