import type { destination } from "../../proto/index.ts";
import { canonicalIp } from "../../proxy/core/address.ts";
import type { Cluster } from "./cluster.ts";
import { endpointMessage, isOpaque } from "./endpoint.ts";
import { failedPrecondition, invalidArgument, notFound } from "./failure.ts";
import type { Init } from "./message.ts";
import type { ExternalWorkload, Pod, Service, ServiceProfile } from "./objects.ts";
import { includesPort, parsePorts } from "./ports.ts";
import { serviceByIp } from "./service.ts";
import { parseServiceName, splitAuthority } from "./service-name.ts";
import { DEFAULT_BUDGET, profileOf } from "./service-profile.ts";
import { KINDS } from "./store.ts";
import type { Workload } from "./workload.ts";
import type { ContextToken } from "./workload-token.ts";

export type ProfileMessage = Init<typeof destination.DestinationProfileSchema>;

/**
 * What is known of an address or a name: the profile of a Service, or of the one endpoint behind the address.
 *
 * @param path - `ip:port`, `[ip6]:port`, or `name[:port]`; port 80 unless told.
 * @throws CallFailure FailedPrecondition if several objects claim the address; InvalidArgument for a path that is
 *   none; NotFound for a Service that does not exist.
 */
export function lookupProfile(cluster: Cluster, path: string, context: ContextToken): ProfileMessage {
  const authority = splitAuthority(path);
  if (authority === undefined) throw invalidArgument(`invalid authority ${path}`);
  const { host, port } = authority;
  const ip = canonicalIp(host);
  if (ip !== undefined) {
    const service = serviceByIp(cluster, ip);
    return service === undefined ? endpointProfile(cluster, ip, port) : serviceProfile(cluster, service, port, context);
  }
  const name = parseServiceName(host, cluster.clusterDomain);
  if (name === undefined) throw invalidArgument(`invalid authority ${path}: not a Service name`);
  const service = cluster.store.get<Service>(KINDS.services, name.namespace, name.name);
  if (service === undefined) throw notFound(`service ${name.name}.${name.namespace} not found`);
  if (name.hostname === undefined) return serviceProfile(cluster, service, port, context);
  const pod = cluster.store.get<Pod>(KINDS.pods, name.namespace, name.hostname);
  const podIp = pod?.status?.podIP;
  if (podIp === undefined) throw notFound(`no pod found for ${host}`);
  return endpointProfile(cluster, podIp, port);
}

function serviceProfile(cluster: Cluster, service: Service, port: number, context: ContextToken): ProfileMessage {
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
  return {
    ...profileOf(profile),
    fullyQualifiedName: fqn,
    opaqueProtocol: includesPort(opaque, port),
    parentRef: {
      kind: { case: "resource", value: { group: "core", kind: "Service", name, namespace, port } },
    },
  };
}

function named(ports: NonNullable<NonNullable<Service["spec"]>["ports"]>) {
  return ports.map(({ name, port }) => ({ ...(name === undefined ? {} : { name }), port }));
}

function endpointProfile(cluster: Cluster, ip: string, port: number): ProfileMessage {
  const found = workloadAt(cluster, ip, port);
  const workload = found?.workload;
  const at = found?.port ?? port;
  const namespace = workload?.object.metadata.namespace;
  const labels = namespace === undefined ? {} : { namespace };
  const endpoint = endpointMessage(cluster, { ip: found?.ip ?? ip, port: at, workload }, labels);
  return {
    retryBudget: DEFAULT_BUDGET,
    opaqueProtocol: isOpaque(cluster, workload, at),
    ...(endpoint !== undefined && { endpoint }),
  };
}

interface Found {
  readonly workload: Workload;
  readonly ip: string;
  readonly port: number;
}

/** Lookup order of Linkerd: a pod's address, a host's port that leads to a pod, an ExternalWorkload's address and port. */
function workloadAt(cluster: Cluster, ip: string, port: number): Found | undefined {
  const pods = cluster.store.list<Pod>(KINDS.pods).filter(isAlive);
  const own = pods.filter((pod) => pod.spec?.hostNetwork !== true && podIps(pod).includes(ip));
  const pod = onlyOne(own, `Pod IP ${ip}`);
  if (pod !== undefined) return { workload: { kind: "pod", object: pod }, ip, port };
  const mapped = pods.flatMap((object) => {
    if (canonicalIp(object.status?.hostIP ?? "") !== ip) return [];
    const declared = (object.spec?.containers ?? []).flatMap((container) => container.ports ?? []);
    const target = declared.find(({ hostPort }) => hostPort === port);
    return target === undefined ? [] : [{ object, target }];
  });
  const host = onlyOne(mapped, `host address ${ip}:${port}`);
  if (host !== undefined) {
    const { object, target } = host;
    const workload = { kind: "pod", object } as const;
    return { workload, ip: object.status?.podIP ?? ip, port: target.containerPort };
  }
  const external = cluster.store.list<ExternalWorkload>(KINDS.externalWorkloads).filter(({ spec }) => {
    const addresses = spec?.workloadIPs?.map((item) => canonicalIp(item.ip ?? ""));
    return addresses?.includes(ip) === true && spec?.ports?.some((declared) => declared.port === port) === true;
  });
  const object = onlyOne(external, `ExternalWorkload address ${ip}:${port}`);
  return object && { workload: { kind: "external-workload", object }, ip, port };
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
