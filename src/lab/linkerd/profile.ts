import type { destination } from "../../proto/index.ts";
import { canonicalIp } from "../../proxy/core/address.ts";
import type { Cluster } from "./cluster.ts";
import { endpointMessage, isOpaque } from "./endpoint.ts";
import { failedPrecondition, invalidArgument, notFound, unknown } from "./failure.ts";
import type { Init } from "./message.ts";
import type { ExternalWorkload, Pod, Service, ServiceProfile } from "./objects.ts";
import { includesPort, parsePorts } from "./ports.ts";
import { serviceByIp } from "./service.ts";
import { parseServiceName, splitAuthority } from "./service-name.ts";
import { BadProfile, DEFAULT_BUDGET, profileOf } from "./service-profile.ts";
import { KINDS } from "./store.ts";
import type { Workload } from "./workload.ts";
import type { ContextToken } from "./workload-token.ts";

export type ProfileMessage = Init<typeof destination.DestinationProfileSchema>;

/**
 * What is known of an address or a name: the profile of a Service, or of the one endpoint behind the address.
 *
 * @returns undefined where Linkerd says nothing: a ServiceProfile that it cannot translate.
 * @param path - `ip:port`, `[ip6]:port`, or `name[:port]`; port 80 unless told.
 * @throws CallFailure FailedPrecondition if several objects claim the address; InvalidArgument for a path that is
 *   none, and for a Service that is another name; Unknown for one that does not exist; NotFound for a host of it.
 */
export function lookupProfile(cluster: Cluster, path: string, context: ContextToken): ProfileMessage | undefined {
  return profileSource(cluster, path, context)();
}

/**
 * Finds out what a path means, once. The function that is returned then says what is known of it now: a Service that is
 * gone, and an ExternalWorkload that no longer has the address or the port, are not noticed.
 *
 * @throws CallFailure as {@link lookupProfile}.
 */
export function profileSource(cluster: Cluster, path: string, context: ContextToken): () => ProfileMessage | undefined {
  const authority = splitAuthority(path);
  if (authority === undefined) throw invalidArgument(`invalid authority ${path}`);
  const { host, port } = authority;
  const ip = canonicalIp(host);
  if (ip !== undefined) {
    const service = serviceByIp(cluster, ip);
    return service === undefined ? endpointSource(cluster, ip, port) : serviceSource(cluster, service, port, context);
  }
  const name = parseServiceName(host, cluster.clusterDomain);
  if (name === undefined) throw invalidArgument(`invalid authority ${path}: not a Service name`);
  if (name.hostname === undefined) {
    const service = cluster.store.get<Service>(KINDS.services, name.namespace, name.name);
    if (service === undefined) throw unknown(`service "${name.name}" not found`);
    if (service.spec?.type === "ExternalName") throw invalidArgument(`Invalid authority: ${path}`);
    return serviceSource(cluster, service, port, context);
  }
  const pod = cluster.store.get<Pod>(KINDS.pods, name.namespace, name.hostname);
  const podIp = pod?.status?.podIP;
  if (podIp === undefined) throw notFound(`no pod found for ${host}`);
  return endpointSource(cluster, podIp, port);
}

function serviceSource(
  cluster: Cluster,
  { metadata: { namespace, name } }: Service,
  port: number,
  context: ContextToken,
): () => ProfileMessage | undefined {
  return () => {
    const service = cluster.store.get<Service>(KINDS.services, namespace, name);
    return service && serviceProfile(cluster, service, port, context);
  };
}

function endpointSource(cluster: Cluster, ip: string, port: number): () => ProfileMessage | undefined {
  let last = workloadAt(cluster, ip, port);
  return () => {
    const workload = workloadAt(cluster, ip, port);
    if (workload === undefined && last?.kind === "external-workload") {
      const { namespace, name } = last.object.metadata;
      if (cluster.store.get(KINDS.externalWorkloads, namespace, name) !== undefined) return undefined;
    }
    last = workload;
    return endpointProfile(cluster, workload, ip, port);
  };
}

function serviceProfile(
  cluster: Cluster,
  service: Service,
  port: number,
  context: ContextToken,
): ProfileMessage | undefined {
  const { name, namespace = "", annotations } = service.metadata;
  const ports = service.spec?.ports ?? [];
  // An empty profile, and no end of the stream: the policy of such a port then forbids it.
  if (!ports.some((declared) => declared.port === port)) return {};
  const fqn = `${name}.${namespace}.svc.${cluster.clusterDomain}`;
  const places = context.namespace === undefined ? [namespace] : [context.namespace, namespace];
  const profile = places
    .map((place) => cluster.store.get<ServiceProfile>(KINDS.serviceProfiles, place, fqn))
    .find((found) => found !== undefined);
  const opaque = parsePorts(
    annotations?.["config.linkerd.io/opaque-ports"] ?? cluster.defaultOpaquePorts,
    named(ports),
  );
  const routing = translated(profile, port);
  if (routing === undefined) return undefined;
  return {
    ...routing,
    fullyQualifiedName: fqn,
    opaqueProtocol: includesPort(opaque, port),
    parentRef: {
      kind: { case: "resource", value: { group: "core", kind: "Service", name, namespace, port } },
    },
  };
}

function translated(profile: ServiceProfile | undefined, port: number): ProfileMessage | undefined {
  try {
    return profileOf(profile, port);
  } catch (error) {
    if (error instanceof BadProfile) return undefined;
    throw error;
  }
}

function named(ports: NonNullable<NonNullable<Service["spec"]>["ports"]>) {
  return ports.map(({ name, port }) => ({ ...(name === undefined ? {} : { name }), port }));
}

function endpointProfile(cluster: Cluster, workload: Workload | undefined, ip: string, port: number): ProfileMessage {
  const namespace = workload?.object.metadata.namespace;
  // No zone is looked for here, and the label is there all the same.
  const labels = namespace === undefined ? {} : { namespace, zone: "" };
  const endpoint = endpointMessage(cluster, { ip, port, workload, ownerKind: "verbatim" }, labels);
  return {
    retryBudget: DEFAULT_BUDGET,
    opaqueProtocol: isOpaque(cluster, workload, port),
    ...(endpoint !== undefined && { endpoint }),
  };
}

/**
 * Lookup order of Linkerd: a pod's address, a host's port that leads to a pod, an ExternalWorkload's address and port.
 * A pod that does not run yet takes its address, and nothing is known of it.
 */
function workloadAt(cluster: Cluster, ip: string, port: number): Workload | undefined {
  const pods = cluster.store.list<Pod>(KINDS.pods).filter(isAlive);
  const own = pods.filter((pod) => pod.spec?.hostNetwork !== true && podIps(pod).includes(ip));
  const pod = onlyOne(own, `Pod IP ${ip}`);
  const mapped = pods.filter(({ spec, status }) => {
    if (canonicalIp(status?.hostIP ?? "") !== ip) return false;
    return spec?.containers?.some(({ ports = [] }) => ports.some(({ hostPort }) => hostPort === port)) === true;
  });
  const found = pod ?? onlyOne(mapped, `host address ${ip}:${port}`);
  if (found !== undefined) return found.status?.phase === "Running" ? { kind: "pod", object: found } : undefined;
  const external = cluster.store.list<ExternalWorkload>(KINDS.externalWorkloads).filter(({ spec }) => {
    const addresses = spec?.workloadIPs?.map((item) => canonicalIp(item.ip ?? ""));
    return addresses?.includes(ip) === true && spec?.ports?.some((declared) => declared.port === port) === true;
  });
  const object = onlyOne(external, `ExternalWorkload address ${ip}:${port}`);
  return object && { kind: "external-workload", object };
}

/** @throws CallFailure FailedPrecondition if there are several. */
function onlyOne<T>(found: readonly T[], what: string): T | undefined {
  if (found.length > 1) throw failedPrecondition(`${what} is claimed by ${found.length} objects`);
  return found[0];
}

function isAlive({ status, metadata }: Pod): boolean {
  return status?.phase !== "Succeeded" && status?.phase !== "Failed" && metadata.deletionTimestamp === undefined;
}

function podIps({ status }: Pod): readonly string[] {
  const texts = [status?.podIP, ...(status?.podIPs ?? []).map(({ ip }) => ip)];
  return texts.map((text) => canonicalIp(text ?? "")).filter((ip) => ip !== undefined);
}
