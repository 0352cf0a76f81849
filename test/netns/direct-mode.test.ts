/** Linkerd's manual procedure, with this agent in place of its proxy: no enroller has a part in it. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openSockets, type SpiffeSockets } from "../../src/agent/spiffe/index.ts";
import { derToPem, spkiFingerprint, splitPem } from "../../src/bootstrap/control/index.ts";
import { Issuer } from "../../src/bootstrap/enroller/issuer.ts";
import { loadKubeClient } from "../../src/bootstrap/enroller/kubernetes-client.ts";
import {
  CONFIG_MAPS,
  type ConfigMap,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  SECRETS,
  type Secret,
} from "../../src/bootstrap/enroller/resources.ts";
import { exportKey, generateKey, publicKeyDer } from "../../src/bootstrap/identity/index.ts";
import { AGENT_UID, AgentOnHost, ownedByAgent } from "../../src/lab/agent-on-host.ts";
import { LINKERD, PORTS, podIdentity, SERVICE_CIDR } from "../../src/lab/control-plane.ts";
import { addPod, SAMPLE } from "../../src/lab/sample.ts";
import { Lab } from "../../src/lab/up.ts";
import type { WorkloadIdentity } from "../../src/proxy/core/identity.ts";
import { until } from "../support/until.ts";

const NAMESPACE = SAMPLE.namespace;
const URI = "spiffe://cluster.local/vm/erp";
const SERVER_NAME = "erp.vm.cluster.local";

let lab: Lab;
let spire: SpiffeSockets | undefined;
let vm: AgentOnHost | undefined;

beforeAll(async () => {
  lab = await Lab.start();
  await addPod(lab);
});

afterAll(async () => {
  await vm?.stop();
  spire?.close();
  await lab.stop();
});

/** What SPIRE's server would sign, under the mesh's own anchors. */
async function svid(): Promise<WorkloadIdentity> {
  const client = loadKubeClient({ kubeconfig: lab.kubeconfig });
  const secret = await client.get<Secret>(SECRETS, LINKERD, "linkerd-identity-issuer");
  const roots = await client.get<ConfigMap>(CONFIG_MAPS, LINKERD, "linkerd-identity-trust-roots");
  const text = (name: string) => Buffer.from(secret?.data?.[name] ?? "", "base64").toString();
  const trustAnchorsPem = splitPem(roots?.data?.["ca-bundle.crt"] ?? "");
  const issuer = await Issuer.load(text("crt.pem"), text("key.pem"), trustAnchorsPem, Date.now());
  const key = generateKey();
  const spki = publicKeyDer(key);
  const proven = { spki, fingerprint: spkiFingerprint(spki) };
  const issued = await issuer.issue(proven, { dns: SERVER_NAME, uri: URI }, 3_600_000, Date.now());
  return {
    generation: 1,
    name: SERVER_NAME,
    uri: URI,
    serverName: SERVER_NAME,
    keyPem: exportKey(key),
    certificatePem: issued.chain.map(derToPem).join(""),
    trustAnchorsPem,
    notBeforeMs: Date.now() - 60_000,
    notAfterMs: issued.notAfterMs,
  };
}

/** What the administrator writes, the status by itself: an ordinary apply drops it. */
async function register(ip: string): Promise<void> {
  const client = loadKubeClient({ kubeconfig: lab.kubeconfig });
  const object: ExternalWorkload = {
    apiVersion: "workload.linkerd.io/v1beta1",
    kind: "ExternalWorkload",
    metadata: { name: "erp", namespace: NAMESPACE, labels: { app: SAMPLE.group } },
    spec: {
      meshTLS: { identity: URI, serverName: SERVER_NAME },
      workloadIPs: [{ ip }],
      ports: [{ name: "http", port: SAMPLE.port, protocol: "TCP" }],
    },
  };
  await client.apply(EXTERNAL_WORKLOADS, NAMESPACE, object, "admin");
  const { spec: _spec, ...bare } = object;
  const lastTransitionTime = new Date().toISOString();
  const ready = { type: "Ready", status: "True", reason: "Static", message: "by hand", lastTransitionTime } as const;
  await client.apply(EXTERNAL_WORKLOADS, NAMESPACE, { ...bare, status: { conditions: [ready] } }, "admin", "status");
}

it("serves meshed callers with an identity from a Workload API and an ExternalWorkload made by hand", async () => {
  const host = await lab.addVm("erp", [{ kind: "http", port: SAMPLE.port }]);
  await register(host.ip);
  const identity = await svid();
  const directory = join(lab.directory, "spire");
  mkdirSync(directory, { mode: 0o755 });
  spire = await openSockets({
    directory,
    users: [String(AGENT_UID)],
    units: [],
    identity: { current: () => identity, subscribe: () => () => {} },
    log: { error() {}, warn() {}, info() {}, debug() {} },
  });
  const control = lab.network.address(0, 10);
  const home = join(lab.directory, "erp");
  ownedByAgent(home, 0o755);
  vm = new AgentOnHost(host, home, {
    workload: { namespace: NAMESPACE, name: "erp", addresses: [host.ip] },
    identity: { source: "spiffe", spiffeSocket: join(directory, "agent.sock"), serverName: SERVER_NAME },
    controlPlane: {
      destination: `${control}:${PORTS.destination}`,
      policy: `${control}:${PORTS.policy}`,
      name: podIdentity(LINKERD, "linkerd-destination"),
      direct: true,
    },
    inbound: { ports: [SAMPLE.port] },
    interception: { capture: [SERVICE_CIDR] },
  });
  await vm.start();
  const status = await vm.status();
  expect(status?.identity).toMatchObject({ uri: URI, source: "spiffe" });
  expect(status?.registration).toBeUndefined();

  const url = `http://${SAMPLE.group}.${NAMESPACE}.svc.cluster.local/`;
  const answer = await until(
    async () => {
      const { stdout } = await lab.exec(SAMPLE.pod, "curl", ["-s", "--max-time", "3", url]);
      return stdout.startsWith("{") ? (JSON.parse(stdout) as { readonly app: string }) : undefined;
    },
    "an answer",
    20_000,
  );
  expect(answer.app).toBe("erp");
  const { stdout: metrics } = await lab.exec("erp", "curl", ["-s", "http://127.0.0.1:4191/metrics"]);
  const client = `client_id="${SAMPLE.pod}.${NAMESPACE}.serviceaccount.identity.linkerd.cluster.local"`;
  expect(metrics.split("\n").some((line) => line.includes('tls="true"') && line.includes(client))).toBe(true);
  // The way out too: a program of the VM calls the pod's Service, which knows it by its first name.
  const { stdout: called } = await lab.exec("erp", "curl", [
    ...["-sS", "--max-time", "5"],
    `http://${SAMPLE.pod}.${NAMESPACE}.svc.cluster.local/`,
  ]);
  expect(JSON.parse(called)).toMatchObject({ app: SAMPLE.pod });
  const { stdout: seen } = await lab.exec(SAMPLE.pod, "curl", ["-s", "http://127.0.0.1:4191/metrics"]);
  expect(seen.split("\n").some((line) => line.includes(`client_id="${SERVER_NAME}"`))).toBe(true);
});
