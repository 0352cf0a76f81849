import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EXTERNAL_WORKLOADS, installManifests, type KubeObject } from "../../../src/bootstrap/enroller/index.ts";
import { kubeconfig, type LabApi, LabStore, selfSigned, startApi } from "../../../src/lab/api/index.ts";
import { INSTALL } from "../../support/cluster-site.ts";

const script = new URL("../../../scripts/kubectl.sh", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "mesh-agent-kubectl-"));
const token = "an-administrator";
let program = "";
let store: LabStore;
let api: LabApi;
let watcher: ChildProcess | undefined;

const environment = { PATH: process.env["PATH"] ?? "", HOME: folder, KUBECONFIG: join(folder, "config") };

/** Runs kubectl; the answer holds what it wrote to both outputs. */
function kubectl(arguments_: readonly string[], input = ""): Promise<{ code: number; text: string }> {
  return new Promise((resolve) => {
    const child = execFile(program, arguments_, { env: environment }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), text: stdout + stderr });
    });
    child.stdin?.end(input);
  });
}

const run = async (line: string, input = "") => (await kubectl(line.split(" "), input)).text;

const MANIFEST = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: shop}
spec: {selector: {app: legacy}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: vm-a, namespace: shop, labels: {app: legacy}}
spec:
  meshTLS: {identity: "spiffe://cluster.local/ns/shop/sa/legacy", serverName: legacy.shop.serviceaccount.identity.linkerd.cluster.local}
  ports: [{name: http, port: 8080, protocol: TCP}]
  workloadIPs: [{ip: 10.77.0.5}]
`;

beforeAll(async () => {
  program = execFileSync("sh", [script], { encoding: "utf8" }).trim();
  store = new LabStore();
  const tls = await selfSigned(["127.0.0.1"]);
  api = await startApi(store, { listen: [{ host: "127.0.0.1", port: 0 }], tls, token });
  const reach = { server: `https://127.0.0.1:${api.ports[0]}`, certificateAuthority: tls.cert, token };
  writeFileSync(environment.KUBECONFIG, kubeconfig(reach));
  await kubectl(["apply", "-f", "-"], MANIFEST);
}, 120_000);

afterAll(async () => {
  watcher?.kill();
  await api?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe("kubectl against the lab", () => {
  it("sees version and kinds", async () => {
    expect(await run("version --short")).toContain("Server Version: v1.31.0");
    expect(await run("api-resources --api-group=workload.linkerd.io")).toMatch(
      /externalworkloads +workload\.linkerd\.io\/v1beta1 +true/,
    );
    expect(await run("api-versions")).toContain("gateway.networking.k8s.io/v1\n");
  });

  it("shows an ExternalWorkload with its printer columns", async () => {
    const lines = (await run("get externalworkloads -A")).trim().split("\n");
    expect(lines[0]).toMatch(/^NAMESPACE +NAME +IDENTITY +AGE$/);
    expect(lines[1]).toMatch(/^shop +vm-a +spiffe:\/\/cluster\.local\/ns\/shop\/sa\/legacy +\d+s$/);
    expect(await run("get external -n shop -o name")).toBe("externalworkload.workload.linkerd.io/vm-a\n");
  });

  it("shows a service with the ClusterIP it was given", async () => {
    expect(await run("-n shop get svc -o wide")).toMatch(
      /legacy +ClusterIP +10\.96\.0\.\d+ +<none> +80\/TCP +\d+s +app=legacy/,
    );
    expect(await run("-n shop describe svc legacy")).toMatch(/TargetPort: +8080\/TCP/);
    expect(await run("-n shop describe externalworkload vm-a")).toContain("Server Name:");
  });

  it("finds nothing to change when the same is applied again", async () => {
    const text = await run("apply -f -", MANIFEST);
    expect(text).toContain("service/legacy unchanged");
    expect(text).toContain("externalworkload.workload.linkerd.io/vm-a unchanged");
  });

  it("applies on the server, and reports whose field it would take", async () => {
    const metadata = { name: "c", namespace: "shop" };
    const config = (a: string) => JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata, data: { a } });
    expect(await run("apply --server-side --field-manager one -f -", config("1"))).toContain("serverside-applied");
    expect(await run("apply --server-side --field-manager two -f -", config("2"))).toContain(
      'conflict with "one": .data.a',
    );
    expect(await run("apply --server-side --field-manager two --force-conflicts -f -", config("2"))).toContain(
      "serverside-applied",
    );
    expect(await run("-n shop get cm c -o jsonpath={.data.a}")).toBe("2");
  });

  it("patches built-in kinds strategically and custom ones by merging", async () => {
    await kubectl(["-n", "shop", "patch", "svc", "legacy", "-p", '{"spec":{"ports":[{"port":80,"targetPort":9090}]}}']);
    expect(await run("-n shop get svc legacy -o jsonpath={.spec.ports[*].name}:{.spec.ports[*].targetPort}")).toBe(
      "http:9090",
    );
    const bad = await kubectl([
      "-n",
      "shop",
      "patch",
      "externalworkload",
      "vm-a",
      "--type=merge",
      "-p",
      '{"spec":{"meshTLS":{"identity":""}}}',
    ]);
    expect(bad.code).toBe(1);
    expect(bad.text).toContain("should be at least 1 chars long");
    await kubectl([
      "-n",
      "shop",
      "patch",
      "svc",
      "legacy",
      "--type=json",
      "-p",
      '[{"op":"add","path":"/metadata/labels","value":{"x":"y"}}]',
    ]);
    expect(await run("get svc -A -l x=y -o name")).toBe("service/legacy\n");
  });

  it("labels, annotates and replaces", async () => {
    expect(await run("-n shop label externalworkload vm-a tier=gold")).toContain("labeled");
    expect(await run("-n shop annotate externalworkload vm-a config.linkerd.io/opaque-ports=3306")).toContain(
      "annotated",
    );
    const object = await run("-n shop get externalworkload vm-a -o json");
    expect(await run("replace -f -", object.replace("gold", "silver"))).toContain("replaced");
    expect(await run("replace -f -", object)).toContain("the object has been modified");
  });

  it("installs what cluster install prints, and works with a group as an administrator would", async () => {
    const manifests = installManifests(INSTALL);
    await run("create ns linkerd");
    const applied = await run("apply -f -", manifests);
    expect(applied.trim().split("\n")).toHaveLength(20);
    expect(applied).not.toMatch(/error|unable|invalid/i);
    expect(await run("apply -f -", manifests)).not.toMatch(/ (?:created|configured)$/m);

    const wrong = "{template: {serviceAccountName: legacy, probes: [{httpGet: {port: 80}, tcpSocket: {port: 80}}]}}";
    const group = (spec: string) =>
      `apiVersion: mesh-agent.io/v1alpha1\nkind: ExternalWorkloadGroup\nmetadata: {name: legacy, namespace: shop}\nspec: ${spec}\n`;
    expect(await run("apply -f -", group(wrong))).toContain("exactly one of httpGet, tcpSocket, grpc and exec");
    const right =
      "{template: {serviceAccountName: legacy, ports: [{name: http, port: 8080}]}, admission: {approval: Manual, maxHosts: 3}}";
    expect(await run("apply -f -", group(right))).toContain("externalworkloadgroup.mesh-agent.io/legacy created");
    const table = (await run("-n shop get ewg")).trim().split("\n");
    expect(table[0]).toMatch(/^NAME +ACCOUNT +APPROVAL +MAX +REGISTERED +READY +PENDING +AGE$/);
    expect(table[1]).toMatch(/^legacy +legacy +Manual +3 +\d+s$/);
    expect(await run("-n shop get ewg legacy -o jsonpath={.spec.template.ports[0].protocol}")).toBe("TCP");
    // What `cluster approve` writes can be written by hand.
    const decision = '{"spec":{"admission":{"hosts":[{"name":"legacy-1a2b3c4d","decision":"Approve"}]}}}';
    expect((await kubectl(["-n", "shop", "patch", "ewg", "legacy", "--type=merge", "-p", decision])).text).toContain(
      "patched",
    );
    const other = '{"spec":{"template":{"serviceAccountName":"other"}}}';
    expect((await kubectl(["-n", "shop", "patch", "ewg", "legacy", "--type=merge", "-p", other])).text).toContain(
      "make another group",
    );

    // Roles and admission hold for whoever an administrator acts as.
    expect(await run("get secrets -n linkerd --as nobody")).toContain('User "nobody" cannot list resource "secrets"');
    const enroller = "--as system:serviceaccount:linkerd:mesh-agent-enroller";
    expect(await run(`auth can-i patch externalworkloads -A ${enroller}`)).toBe("yes\n");
    expect(await run(`auth can-i delete namespaces ${enroller}`)).toContain("no");
    await run("-n shop create role editor --verb=create,patch --resource=externalworkloads.workload.linkerd.io");
    await run("-n shop create rolebinding editor --role=editor --user=tenant");
    const stolen = MANIFEST.slice(MANIFEST.lastIndexOf("---")).replace("vm-a", "vm-b");
    expect(await run("create -f - --as tenant", stolen)).toContain("you may not impersonate");

    // One that the enroller keeps, and that is Ready: not by mistake, nor with --all.
    await run("-n shop label externalworkload vm-a mesh-agent/managed=true");
    const condition = {
      type: "Ready",
      status: "True",
      lastTransitionTime: "2026-11-29T00:00:00Z",
      reason: "Static",
      message: "",
    };
    const status = {
      apiVersion: "workload.linkerd.io/v1beta1",
      kind: "ExternalWorkload",
      metadata: { name: "vm-a" },
      status: { conditions: [condition] },
    };
    store.apply(EXTERNAL_WORKLOADS, "shop", status as KubeObject, { fieldManager: "test", subresource: "status" });
    for (const how of ["vm-a", "--all"])
      expect((await kubectl(["-n", "shop", "delete", "externalworkload", how])).text).toContain(
        "Run `mesh-agent down` on the host",
      );
    await run("-n shop annotate externalworkload vm-a mesh-agent/delete-while-ready=true");
    expect(await run("-n shop delete externalworkload vm-a")).toContain("deleted");
    expect(await run("apply -f -", MANIFEST)).toContain("vm-a created");

    expect(await run("delete -f -", manifests)).not.toContain("Error");
    expect(await run("-n shop get ewg")).toContain("could not find the requested resource");
  }, 120_000);

  it("watches", async () => {
    const child = spawn(program, ["-n", "shop", "get", "cm", "-w", "--no-headers"], { env: environment });
    watcher = child;
    child.stdout.setEncoding("utf8");
    let seen = "";
    child.stdout.on("data", (text: string) => {
      seen += text;
    });
    await once(child.stdout, "data");
    await run("-n shop create cm fresh --from-literal=a=b");
    while (!/^fresh +1 +\d+s$/m.test(seen)) await once(child.stdout, "data");
    child.kill();
    await once(child, "exit");
  });

  it("creates secrets and tokens' accounts, and answers what it may do", async () => {
    expect(await run("-n shop create secret generic s --from-literal=k=v")).toContain("secret/s created");
    expect(await run("-n shop get secret s -o jsonpath={.data.k}")).toBe("dg==");
    expect(await run("-n shop create serviceaccount legacy")).toContain("created");
    expect(await run("auth can-i create externalworkloads")).toBe("yes\n");
  });

  it("deletes, a namespace with all that is in it", async () => {
    expect(await run("-n shop delete svc legacy")).toContain("deleted");
    expect((await kubectl(["-n", "shop", "get", "svc", "legacy"])).text).toContain('services "legacy" not found');
    expect(await run("delete ns shop")).toContain("deleted");
    expect(await run("get externalworkloads -A")).toContain("No resources found");
  });
});
