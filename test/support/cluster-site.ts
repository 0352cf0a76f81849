import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeJoinString, realScheduler, silentLog } from "../../src/bootstrap/control/index.ts";
import {
  collectionOf,
  type InstallOptions,
  installObjects,
  type KubeObject,
} from "../../src/bootstrap/enroller/index.ts";
import { type KubernetesClient, loadKubeClient } from "../../src/bootstrap/enroller/kubernetes-client.ts";
import { AttachClient } from "../../src/bootstrap/host/index.ts";
import { type Enrolment, enrol } from "../../src/bootstrap/identity/index.ts";
import {
  type Access,
  kubeconfig,
  type LabApi,
  LabStore,
  selfSigned,
  startApi,
  TYPES,
  type User,
} from "../../src/lab/api/index.ts";
import { installMesh } from "./mesh-kube.ts";
import { type TestPair, testMeshCa } from "./test-ca.ts";

export const INSTALL: InstallOptions = {
  namespace: "linkerd",
  image: "mesh-agent:test",
  capture: [],
  replicas: 2,
  serviceType: "LoadBalancer",
  issuerSecret: "linkerd-identity-issuer",
  lifetime: "24h",
  metricsPort: true,
};

/** One judged request: who, what, by which rule; no rule: refused. */
export interface Judged {
  readonly user: User;
  readonly access: Access;
  readonly rule: string | undefined;
}

/** A cluster as `cluster install` leaves it, behind a real HTTPS API with roles and admission policies in force. */
export interface ClusterSite {
  readonly store: LabStore;
  readonly api: LabApi;
  readonly admin: KubernetesClient;
  readonly kubeconfig: string;
  readonly ca: { readonly root: TestPair; readonly issuer: TestPair };
  readonly judged: readonly Judged[];
  /** A client with a ServiceAccount's rights; the account is made if it is missing. */
  as(namespace: string, account: string): KubernetesClient;
  /** Answers instead of the API, if it likes. */
  fault: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  close(): Promise<void>;
}

export async function clusterSite(install: Partial<InstallOptions> = {}): Promise<ClusterSite> {
  const store = new LabStore();
  for (const name of ["linkerd", "shop"]) store.put(TYPES.namespaces, named("v1", "Namespace", name));
  const pair = await selfSigned(["127.0.0.1"]);
  const judged: Judged[] = [];
  const api = await startApi(store, {
    listen: [{ host: "127.0.0.1", port: 0 }],
    tls: { cert: pair.cert, key: pair.key },
    token: "administrator",
    onAccess: (user, access, rule) => judged.push({ user, access, rule }),
    fault: (request, response) => site.fault?.(request, response) === true,
  });
  const directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  const connect = (name: string, token: string) => {
    const file = join(directory, name);
    const server = `https://127.0.0.1:${api.ports[0]}`;
    writeFileSync(file, kubeconfig({ server, certificateAuthority: pair.cert, token }));
    return file;
  };
  const file = connect("admin", "administrator");
  const admin = loadKubeClient({ kubeconfig: file });
  const ca = await testMeshCa();
  const site: ClusterSite = {
    store,
    api,
    admin,
    kubeconfig: file,
    ca,
    judged,
    fault: undefined,
    as(namespace, account) {
      if (store.get(TYPES.serviceAccounts, namespace, account) === undefined)
        store.put(TYPES.serviceAccounts, named("v1", "ServiceAccount", account, namespace));
      const { token } = api.tokens.issue(namespace, account);
      return loadKubeClient({ kubeconfig: connect(`${namespace}-${account}`, token) });
    },
    async close() {
      await api.close();
      rmSync(directory, { recursive: true });
    },
  };
  await installMesh(admin, ca);
  for (const object of installObjects({ ...INSTALL, ...install })) await put(admin, object);
  return site;
}

/** Creates an object, as `kubectl apply` would. */
export async function put(client: KubernetesClient, object: KubeObject): Promise<void> {
  await client.apply(collectionOf(object), object.metadata.namespace, object, "kubectl");
}

/** Binds a role of an installation to a ServiceAccount, within one namespace. */
export function bind(
  site: ClusterSite,
  kind: "Role" | "ClusterRole",
  role: string,
  namespace: string,
  account: string,
): Promise<void> {
  const [home = "", name = ""] = account.split("/");
  const group = "rbac.authorization.k8s.io";
  return put(site.admin, {
    ...named(`${group}/v1`, "RoleBinding", `${role}-${kind.toLowerCase()}-${name}`, namespace),
    roleRef: { apiGroup: group, kind, name: role },
    subjects: [{ kind: "ServiceAccount", name, namespace: home }],
  } as KubeObject);
}

export function named(apiVersion: string, kind: string, name: string, namespace?: string): KubeObject {
  return { apiVersion, kind, metadata: { name, ...(namespace !== undefined && { namespace }) } };
}

export function machineOf(name: string): string {
  return createHash("sha256").update(name).digest("hex");
}

export function joinAs(joinString: string, machine: string, more: Partial<Parameters<typeof enrol>[0]> = {}) {
  return enrol({
    join: decodeJoinString(joinString),
    machine: machineOf(machine),
    hostname: machine,
    version: "0.1.0",
    wallMs: Date.now,
    ...more,
  });
}

/** A host that has enrolled, attached and ready. */
export function attach(enrolment: Enrolment, machine: string, heard: (ports: readonly number[]) => void = () => {}) {
  const host = new AttachClient({
    workload: enrolment.configuration.workload,
    mesh: enrolment.configuration,
    enrollers: enrolment.enrollers,
    identity: { current: () => enrolment.identity, subscribe: () => () => {} },
    machine: machineOf(machine),
    hostname: machine,
    version: "0.1.0",
    scheduler: realScheduler,
    log: silentLog,
    addresses: () => ["192.0.2.10"],
    handlers: { configuration: (next) => heard(next.ports.map(({ port }) => port)) },
  });
  host.start();
  host.setReadiness({ ready: true, reason: "", message: "" });
  return host;
}
