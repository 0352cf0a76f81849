import type { KubeObject } from "../../bootstrap/enroller/kubernetes.ts";
import type { destination } from "../../proto/index.ts";
import { canonicalIp } from "../../proxy/core/address.ts";
import type { Cluster } from "./cluster.ts";
import { type Endpoint, type EndpointMessage, endpointMessage, isOpaqueByServer } from "./endpoint.ts";
import { invalidArgument, notFound } from "./failure.ts";
import type { Init } from "./message.ts";
import type { EndpointSlice, ExternalWorkload, Pod, Service } from "./objects.ts";
import { parseServiceName, type ServiceName, splitAuthority } from "./service-name.ts";
import { KINDS } from "./store.ts";
import type { ContextToken } from "./workload-token.ts";

type UpdateMessage = Init<typeof destination.UpdateSchema>;

/** What `Destination.Get` was asked for. */
export interface ServicePortName extends ServiceName {
  readonly port: number;
}

/**
 * Reads and checks the path of a `Get`.
 *
 * @throws CallFailure InvalidArgument for IP addresses, foreign names, bad ports and ExternalName Services; NotFound
 *   for a Service that does not exist.
 */
export function resolveGet(cluster: Cluster, path: string): ServicePortName {
  const authority = splitAuthority(path);
  if (authority === undefined) throw invalidArgument(`invalid authority ${path}`);
  if (canonicalIp(authority.host) !== undefined) {
    throw invalidArgument(`IP queries not supported by Get API: host=${authority.host}`);
  }
  const name = parseServiceName(authority.host, cluster.clusterDomain);
  if (name === undefined) throw invalidArgument(`invalid authority ${path}: not a Service name`);
  const service = cluster.store.get<Service>(KINDS.services, name.namespace, name.name);
  if (service === undefined) throw notFound(`service ${name.name}.${name.namespace} not found`);
  if (service.spec?.type === "ExternalName") throw invalidArgument(`invalid service: ${name.name} is an ExternalName`);
  return { ...name, port: authority.port };
}

/** One endpoint of a set, with what counts as a change of it. */
interface Entry {
  readonly endpoint: Endpoint;
  readonly revision: string;
  /** Name of the EndpointSlice that it was read from. */
  readonly slice: string;
}

/** An endpoint that the client was told of, as it is now: the client may know an older address. */
interface Told extends Entry {
  readonly message: EndpointMessage;
}

/**
 * The endpoints of a Service port as one client's `Get` stream has been told them. It repeats Linkerd's accidents: an
 * endpoint is known by the name of its pod or ExternalWorkload, so a change of an ExternalWorkload's address,
 * identity or ports while it stays ready is **not** told, and of several addresses of one only the last is. When it is
 * no longer ready the address of that moment is removed, and the client keeps the one that it was told. One that is
 * deleted while it is ready, and was alone in its slice, is never removed: Linkerd looks it up to learn which address
 * the deleted slice had.
 */
export class EndpointSet {
  readonly #cluster: Cluster;
  readonly #target: ServicePortName;
  readonly #context: ContextToken;
  #told: ReadonlyMap<string, Told> = new Map();

  constructor(cluster: Cluster, target: ServicePortName, context: ContextToken) {
    this.#cluster = cluster;
    this.#target = target;
    this.#context = context;
  }

  /** Compares with the cluster as it is now: the messages that the client has to be sent, often none. */
  refresh(): readonly UpdateMessage[] {
    const wanted = entries(this.#cluster, this.#target, this.#context);
    const next = new Map<string, Told>();
    const added: EndpointMessage[] = [];
    const removed: EndpointMessage[] = [];
    for (const [key, entry] of wanted) {
      const { endpoint, revision } = entry;
      const message = endpointMessage(this.#cluster, endpoint, zoneLabels(this.#cluster, endpoint, this.#context));
      if (message === undefined) continue;
      next.set(key, { ...entry, message });
      if (this.#told.get(key)?.revision !== revision) added.push(message);
    }
    for (const [key, told] of this.#told) {
      if (next.has(key)) continue;
      if (isForgotten(this.#cluster, told)) next.set(key, told);
      else removed.push(told.message);
    }
    this.#told = next;
    const messages: UpdateMessage[] = [];
    if (added.length > 0) {
      const metricLabels = setLabels(this.#cluster, this.#target);
      messages.push({ update: { case: "add", value: { addrs: added, metricLabels } } });
    }
    if (removed.length > 0) {
      const addrs = removed.map(({ addr }) => addr).filter((addr) => addr !== undefined);
      messages.push({ update: { case: "remove", value: { addrs } } });
    }
    return messages;
  }
}

/** Whether Linkerd forgets to remove an endpoint: a deleted ExternalWorkload that no slice ever gave up. */
function isForgotten({ store }: Cluster, { endpoint: { workload }, slice }: Told): boolean {
  if (workload?.kind !== "external-workload") return false;
  const { name, namespace = "" } = workload.object.metadata;
  if (store.get(KINDS.externalWorkloads, namespace, name) !== undefined) return false;
  const last = store.get<EndpointSlice>(KINDS.endpointSlices, namespace, slice);
  return last === undefined || last.endpoints?.some(({ targetRef }) => targetRef?.name === name) === true;
}

/** What is said of all endpoints at once; of a mirrored Service also what it mirrors. */
function setLabels(cluster: Cluster, target: ServicePortName): Record<string, string> {
  const labels: Record<string, string> = { service: target.name, namespace: target.namespace };
  for (const { metadata } of slicesOf(cluster, target)) {
    const mirrored = metadata.labels?.["mirror.linkerd.io/cluster-name"];
    if (mirrored === undefined) continue;
    labels["target_cluster"] = mirrored;
    const [name, namespace] = metadata.annotations?.["mirror.linkerd.io/remote-svc-fq-name"]?.split(".") ?? [];
    if (name === undefined || namespace === undefined) continue;
    labels["target_service"] = name;
    labels["target_service_namespace"] = namespace;
  }
  return labels;
}

function entries(cluster: Cluster, target: ServicePortName, context: ContextToken): Map<string, Entry> {
  const found = new Map<string, Entry>();
  const service = cluster.store.get<Service>(KINDS.services, target.namespace, target.name);
  if (service === undefined) return found;
  const declared = service.spec?.ports?.find(({ port }) => port === target.port);
  const local = service.spec?.internalTrafficPolicy === "Local";
  for (const slice of slicesOf(cluster, target)) {
    // A port that the Service does not declare is taken for the endpoints' own.
    const port =
      declared === undefined ? target.port : slice.ports?.find((p) => (p.name ?? "") === (declared.name ?? ""))?.port;
    if (port === undefined) continue;
    for (const endpoint of slice.endpoints ?? []) {
      // No condition means ready (EndpointSlice API).
      if (endpoint.conditions?.ready === false) continue;
      if (target.hostname !== undefined && endpoint.hostname !== target.hostname) continue;
      for (const [key, entry] of entriesOf(cluster, target, slice, endpoint, port)) {
        if (local && !isOnNode(entry.endpoint, context.nodeName)) continue;
        found.set(key, entry);
      }
    }
  }
  return found;
}

function slicesOf(cluster: Cluster, { namespace, name }: ServiceName): readonly EndpointSlice[] {
  return cluster.store
    .list<EndpointSlice>(KINDS.endpointSlices, namespace)
    .filter(({ metadata }) => metadata.labels?.["kubernetes.io/service-name"] === name);
}

function* entriesOf(
  cluster: Cluster,
  target: ServicePortName,
  slice: EndpointSlice,
  { addresses = [], targetRef, zone }: NonNullable<EndpointSlice["endpoints"]>[number],
  port: number,
): Generator<readonly [string, Entry]> {
  const namespace = targetRef?.namespace ?? target.namespace;
  const name = targetRef?.name ?? "";
  const place = zone === undefined ? {} : { zone };
  const own = slice.metadata.name;
  for (const ip of addresses) {
    switch (targetRef?.kind) {
      case "Pod": {
        const object = cluster.store.get<Pod>(KINDS.pods, namespace, name);
        // `disableIPv6`, the chart's default, hides the IPv6 addresses of pods.
        if (object === undefined || slice.addressType === "IPv6") break;
        const workload = { kind: "pod", object } as const;
        const revision = `${object.metadata.resourceVersion} ${isOpaqueByServer(cluster, workload, port)}`;
        yield [`pod/${namespace}/${name}`, { endpoint: { ip, port, workload, ...place }, revision, slice: own }];
        break;
      }
      case "ExternalWorkload": {
        const object = cluster.store.get<ExternalWorkload>(KINDS.externalWorkloads, namespace, name);
        if (object === undefined) break;
        const workload = { kind: "external-workload", object } as const;
        const revision = String(isOpaqueByServer(cluster, workload, port));
        const endpoint = { ip, port, workload, ...place };
        yield [`external-workload/${namespace}/${name}`, { endpoint, revision, slice: own }];
        break;
      }
      default: {
        const { annotations = {} } = slice.metadata;
        const identity = annotations["mirror.linkerd.io/remote-gateway-identity"];
        const remote = annotations["mirror.linkerd.io/remote-svc-fq-name"];
        const endpoint: Endpoint = {
          ip,
          port,
          workload: undefined,
          ...place,
          ...(identity !== undefined && { gatewayIdentity: identity }),
          ...(remote !== undefined && { authorityOverride: `${remote}:${target.port}` }),
        };
        yield [`address/${ip}/${port}`, { endpoint, revision: `${identity}`, slice: own }];
      }
    }
  }
}

/** For `internalTrafficPolicy: Local`: only pods have a node, so all other endpoints are never local. */
function isOnNode({ workload }: Endpoint, nodeName: string | undefined): boolean {
  return workload?.kind === "pod" && nodeName !== undefined && workload.object.spec?.nodeName === nodeName;
}

/** `zone`, of workloads only, and from the caller's node `zone_locality`. */
function zoneLabels(cluster: Cluster, endpoint: Endpoint, { nodeName }: ContextToken): Record<string, string> {
  const { workload, zone = "" } = endpoint;
  const node = nodeName === undefined ? undefined : cluster.store.get<KubeObject>(KINDS.nodes, undefined, nodeName);
  const own = node?.metadata.labels?.["topology.kubernetes.io/zone"] ?? "";
  const locality = own === "" || zone === "" ? "unknown" : own === zone ? "local" : "remote";
  return { ...(workload !== undefined && { zone }), zone_locality: locality };
}
