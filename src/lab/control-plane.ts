import { randomBytes } from "node:crypto";
import { chownSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { ENROLLER_SERVICE_ACCOUNT } from "../bootstrap/control/index.ts";
import { collectionOf, installObjects, type KubeObject } from "../bootstrap/enroller/index.ts";
import { API_AUDIENCE, kubeconfig, LabStore, selfSigned, startApi, TYPES } from "./api/index.ts";
import { startEndpointControllers } from "./controllers/index.ts";
import { resolveIn, startDns } from "./dns.ts";
import { DEFAULT_CLUSTER_NETWORKS, DEFAULT_OPAQUE_PORTS, startLinkerd } from "./linkerd/index.ts";
import { configMap, type NamedPort, namespace, readyPod, secret, service, serviceAccount } from "./objects.ts";
import { createPki, type LabPki } from "./pki.ts";

/** Where the control plane's services are, as in a stock installation. */
export const PORTS = { api: 6443, identity: 8080, destination: 8086, policy: 8090, inbound: 4143, dns: 53 } as const;
export const LINKERD = "linkerd";
export const CLUSTER_DOMAIN = "cluster.local";
/** Its own range, so that no network of hosts can overlap it. */
export const SERVICE_CIDR = "10.200.0.0/16";

/** Beside the administrator's: what the enroller presents. */
export const ENROLLER_KUBECONFIG = "enroller.kubeconfig";
const LAB_LIFETIME_SECONDS = 365 * 86_400;

// Half of a certificate's day: whatever happens, the next one comes in time.
const REISSUE_MS = 12 * 3_600_000;

/** How the control plane of a lab is started; plain data, it crosses a process boundary. */
export interface ControlPlaneOptions {
  /** The address it listens on. */
  readonly host: string;
  /** Where it leaves its kubeconfig and the pods' identities. */
  readonly directory: string;
}

/** A pod to be put on record, and given an identity. */
export interface PodOrder {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly ip: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly ports: readonly NamedPort[];
  /** Where `tls.key`, `tls.crt` and `ca.crt` go. */
  readonly identityDirectory: string;
  /** Who may read them. */
  readonly uid: number;
}

/** A Service to be created; its selector is one label, `app`. */
export interface ServiceOrder {
  readonly namespace: string;
  readonly name: string;
  readonly app: string;
  readonly ports: readonly (NamedPort & { readonly targetPort: number })[];
  readonly opaquePorts: readonly number[];
}

/** What the lab asks of its control plane. */
export type Order =
  | { readonly kind: "namespace"; readonly name: string }
  | { readonly kind: "service"; readonly service: ServiceOrder }
  | { readonly kind: "pod"; readonly pod: PodOrder };

/** A running control plane. */
export interface ControlPlane {
  carryOut(order: Order): Promise<void>;
  close(): Promise<void>;
}

/** `SA.NS.serviceaccount.identity.L5D.TD`: what a pod's certificate says. */
export function podIdentity(home: string, account: string): string {
  return `${account}.${home}.serviceaccount.identity.${LINKERD}.${CLUSTER_DOMAIN}`;
}

/**
 * Starts the API, the controllers, Linkerd's services and DNS on one address, and installs what a Linkerd chart would
 * install. The kubeconfig is written last: who finds it finds a complete cluster.
 *
 * @throws Error if one of the {@link PORTS} cannot be had.
 */
export async function startControlPlane({ host, directory }: ControlPlaneOptions): Promise<ControlPlane> {
  const store = new LabStore({ serviceCidr: SERVICE_CIDR });
  const pki = await createPki(CLUSTER_DOMAIN);
  const token = randomBytes(24).toString("base64url");
  const tls = await selfSigned([host]);
  const stopControllers = startEndpointControllers(store);
  const reach = { server: `https://${host}:${PORTS.api}`, certificateAuthority: tls.cert, token };
  const closers: (() => Promise<void> | void)[] = [stopControllers];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const api = await startApi(store, { listen: [{ host, port: PORTS.api }], tls, token });
    closers.push(() => api.close());
    install(store, pki, host);
    // The enroller has the rights of its own account here too, and no more.
    const own = api.tokens.issue(LINKERD, ENROLLER_SERVICE_ACCOUNT, [API_AUDIENCE], LAB_LIFETIME_SECONDS);
    writePrivate(join(directory, ENROLLER_KUBECONFIG), kubeconfig({ ...reach, token: own.token }), 0);
    const linkerd = await startLinkerd({
      store,
      pki: { issuer: pki.issuer, trustAnchorsPem: pki.trustAnchorsPem },
      review: (presented, audiences) => api.tokens.review(presented, audiences),
      listen: {
        host,
        identityPort: PORTS.identity,
        destinationPort: PORTS.destination,
        policyPort: PORTS.policy,
        inboundPort: PORTS.inbound,
      },
      clusterDomain: CLUSTER_DOMAIN,
      controlPlaneNamespace: LINKERD,
    });
    closers.push(() => linkerd.close());
    const dns = await startDns(host, PORTS.dns, CLUSTER_DOMAIN, resolveIn(store, CLUSTER_DOMAIN));
    closers.push(() => void dns.close());
  } catch (error) {
    await close();
    throw error;
  }
  const pods: PodOrder[] = [];
  const reissue = setInterval(() => {
    for (const pod of pods) void issueIdentity(pki, pod);
  }, REISSUE_MS);
  closers.push(() => clearInterval(reissue));

  writePrivate(join(directory, "kubeconfig"), kubeconfig(reach), 0);
  return {
    close,
    async carryOut(order) {
      switch (order.kind) {
        case "namespace":
          if (store.get(TYPES.namespaces, undefined, order.name) === undefined)
            store.put(TYPES.namespaces, namespace(order.name));
          return;
        case "service":
          createService(store, order.service);
          return;
        case "pod":
          await issueIdentity(pki, order.pod);
          createPod(store, order.pod);
          pods.push(order.pod);
          return;
        default:
          order satisfies never;
      }
    },
  };
}

function createService(store: LabStore, order: ServiceOrder): void {
  const annotations: Record<string, string> =
    order.opaquePorts.length > 0 ? { "config.linkerd.io/opaque-ports": order.opaquePorts.join(",") } : {};
  const wish = { selector: { app: order.app }, ports: order.ports, annotations };
  store.put(TYPES.services, service(order.namespace, order.name, wish));
}

function createPod(store: LabStore, order: PodOrder): void {
  if (store.get(TYPES.serviceAccounts, order.namespace, order.serviceAccount) === undefined) {
    store.put(TYPES.serviceAccounts, serviceAccount(order.namespace, order.serviceAccount));
  }
  // The injector's: by them destination knows a pod as meshed.
  const meshed = { "linkerd.io/control-plane-ns": LINKERD, "linkerd.io/workload-ns": order.namespace };
  const labels = { ...order.labels, ...meshed };
  store.put(TYPES.pods, readyPod(order.namespace, order.name, { ...order, labels, now: new Date() }));
}

async function issueIdentity(pki: LabPki, pod: PodOrder): Promise<void> {
  const { keyPem, certificatePem } = await pki.issuer.issue({ dns: [podIdentity(pod.namespace, pod.serviceAccount)] });
  mkdirSync(pod.identityDirectory, { recursive: true });
  writePrivate(join(pod.identityDirectory, "ca.crt"), pki.trustAnchorsPem.join(""), pod.uid);
  writePrivate(join(pod.identityDirectory, "tls.key"), keyPem, pod.uid);
  writePrivate(join(pod.identityDirectory, "tls.crt"), certificatePem, pod.uid);
}

/** What Linkerd's charts leave in a cluster, as far as anybody here reads it. */
function install(store: LabStore, pki: LabPki, host: string): void {
  store.put(TYPES.namespaces, namespace(LINKERD));
  const values = {
    clusterDomain: CLUSTER_DOMAIN,
    clusterNetworks: DEFAULT_CLUSTER_NETWORKS.join(","),
    identityTrustDomain: CLUSTER_DOMAIN,
    identityTrustAnchorsPEM: pki.trustAnchorsPem.join(""),
    linkerdVersion: "lab",
    proxy: {
      defaultInboundPolicy: "all-unauthenticated",
      opaquePorts: DEFAULT_OPAQUE_PORTS,
      outboundTransportMode: "transport-header",
    },
  };
  store.put(TYPES.configMaps, configMap(LINKERD, "linkerd-config", { values: stringify(values) }));
  const bundle = { "ca-bundle.crt": pki.trustAnchorsPem.join("") };
  store.put(TYPES.configMaps, configMap(LINKERD, "linkerd-identity-trust-roots", bundle));
  for (const object of installed()) store.put(collectionOf(object), object);
  const issuer = { "crt.pem": pki.issuer.certificatePem, "key.pem": pki.issuer.keyPem };
  store.put(TYPES.secrets, secret(LINKERD, "linkerd-identity-issuer", "linkerd.io/tls", issuer));

  for (const account of ["linkerd-destination", "linkerd-identity"]) {
    store.put(TYPES.serviceAccounts, serviceAccount(LINKERD, account));
  }
  // One process on one address is all three services, so one pod stands behind all of them: two pods that share an
  // address would make lookups by address fail.
  const labels = { "linkerd.io/control-plane-component": "destination", "linkerd.io/control-plane-ns": LINKERD };
  const ports = [
    { name: "dest-grpc", port: PORTS.destination },
    { name: "policy-grpc", port: PORTS.policy },
    { name: "ident-grpc", port: PORTS.identity },
  ];
  const pod = { ip: host, serviceAccount: "linkerd-destination", labels, ports, now: new Date() };
  store.put(TYPES.pods, readyPod(LINKERD, "linkerd-control-plane-0", pod));
  const grpc = (name: string, port: number, headless: boolean) =>
    store.put(TYPES.services, service(LINKERD, name, { selector: labels, ports: [{ name: "grpc", port }], headless }));
  grpc("linkerd-dst", PORTS.destination, false);
  grpc("linkerd-dst-headless", PORTS.destination, true);
  grpc("linkerd-policy", PORTS.policy, true);
  grpc("linkerd-identity", PORTS.identity, false);
  grpc("linkerd-identity-headless", PORTS.identity, true);
}

/** What `cluster install` prints, but for what would run in pods: the lab runs its enroller itself. */
function installed(): readonly KubeObject[] {
  const options = {
    namespace: LINKERD,
    image: "",
    capture: [],
    replicas: 1,
    serviceType: "ClusterIP",
    issuerSecret: "linkerd-identity-issuer",
    lifetime: "24h",
    metricsPort: true,
  } as const;
  const inPods = ["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"];
  return installObjects(options).filter(({ kind }) => !inPods.includes(kind));
}

/** Written whole or not at all, readable by one user. */
function writePrivate(path: string, text: string, uid: number): void {
  const fresh = `${path}.new`;
  writeFileSync(fresh, text, { mode: 0o600 });
  chownSync(fresh, uid, uid);
  renameSync(fresh, path);
}
