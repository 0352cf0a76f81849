import type { destination } from "../../proto/index.ts";
import { type Cluster, serviceAccountIdentity } from "./cluster.ts";
import { durationMessage } from "./duration.ts";
import type { Init } from "./message.ts";
import { tcpMessage } from "./net.ts";
import type { ExternalWorkload, Pod } from "./objects.ts";
import { includesPort, parsePorts } from "./ports.ts";
import { declaredPorts, serversOf, type Workload } from "./workload.ts";

export type EndpointMessage = Init<typeof destination.WeightedAddrSchema>;

/** One address as the destination controller describes it, before it is a message. */
export interface Endpoint {
  readonly ip: string;
  readonly port: number;
  readonly workload: Workload | undefined;
  /** The name that a gateway proves, for addresses without a workload. */
  readonly gatewayIdentity?: string;
  /** The Host that a gateway wants to see. */
  readonly authorityOverride?: string;
  readonly zone?: string;
  /** How the kind of an ExternalWorkload's owner is written in its label; in small letters unless told. */
  readonly ownerKind?: "verbatim";
}

/** The proxy's own listeners, where a pod does not say otherwise. */
const INBOUND_PORT = 4143;
const PROXY_PORTS = { inbound: INBOUND_PORT, admin: 4191, control: 4190 };

/** The chart's `destinationController.meshedHttp2ClientProtobuf`. */
const HTTP2: Init<typeof destination.Http2ClientParamsSchema> = {
  keepAlive: { interval: durationMessage(10_000), timeout: durationMessage(3000), whileIdle: true },
};

/** The weight of every endpoint; Linkerd knows no other. */
const WEIGHT = 10_000;

/**
 * Turns an endpoint into the message that tells a client how to reach it: protocol, identity, labels.
 *
 * @param labels - Labels of the caller's point of view, such as `zone_locality`.
 * @returns undefined if the address is no IP address.
 */
export function endpointMessage(
  cluster: Cluster,
  endpoint: Endpoint,
  labels: Readonly<Record<string, string>>,
): EndpointMessage | undefined {
  const addr = tcpMessage(endpoint.ip, endpoint.port);
  if (addr === undefined) return undefined;
  const base = { addr, weight: WEIGHT };
  switch (endpoint.workload?.kind) {
    case undefined:
      return { ...base, metricLabels: { ...labels }, ...gateway(endpoint) };
    case "pod":
      return { ...base, ...pod(cluster, endpoint.workload.object, endpoint.port, labels) };
    case "external-workload":
      return { ...base, ...externalWorkload(cluster, endpoint, endpoint.workload.object, labels) };
  }
}

/** Whether clients must treat a port as opaque: the workload's annotation, the default list, or an opaque Server. */
export function isOpaque(cluster: Cluster, workload: Workload | undefined, port: number): boolean {
  if (workload === undefined) return includesPort(parsePorts(cluster.defaultOpaquePorts), port);
  const annotation = workload.object.metadata.annotations?.["config.linkerd.io/opaque-ports"];
  const list = parsePorts(annotation ?? cluster.defaultOpaquePorts, declaredPorts(workload));
  return includesPort(list, port) || isOpaqueByServer(cluster, workload, port);
}

/** Whether a Server of the port says `proxyProtocol: opaque`: any of them, not only the one that rules its policy. */
export function isOpaqueByServer(cluster: Cluster, workload: Workload, port: number): boolean {
  return serversOf(cluster, workload, port).some(({ spec }) => spec?.proxyProtocol === "opaque");
}

function externalWorkload(
  cluster: Cluster,
  { port, ownerKind }: Endpoint,
  object: ExternalWorkload,
  labels: Readonly<Record<string, string>>,
): EndpointMessage {
  const opaque = isOpaque(cluster, { kind: "external-workload", object }, port);
  const { meshTLS, ports = [] } = object.spec ?? {};
  const inboundPort = ports.find(({ name }) => name === "linkerd-proxy")?.port ?? INBOUND_PORT;
  return {
    metricLabels: { ...labels, external_workload: object.metadata.name, ...ownerLabel(object, ownerKind) },
    // Always a URI, whatever it looks like: a DNS name here makes stock clients talk in clear.
    ...(meshTLS && {
      tlsIdentity: {
        strategy: { case: "uriLikeIdentity", value: { uri: meshTLS.identity } },
        serverName: { name: meshTLS.serverName },
      },
    }),
    protocolHint: {
      protocol: { case: opaque ? "opaque" : "h2", value: {} },
      ...((opaque || cluster.transportHeader) && { opaqueTransport: { inboundPort } }),
    },
    http2: HTTP2,
  };
}

function pod(cluster: Cluster, object: Pod, port: number, labels: Readonly<Record<string, string>>): EndpointMessage {
  const { namespace = "", labels: own = {}, annotations = {} } = object.metadata;
  const metricLabels = { ...labels, ...podLabels(object) };
  const controlPlane = own["linkerd.io/control-plane-ns"];
  const declared = declaredPorts({ kind: "pod", object });
  const skipped = parsePorts(annotations["config.linkerd.io/skip-inbound-ports"] ?? "", declared);
  if (controlPlane === undefined || includesPort(skipped, port)) return { metricLabels };
  const opaque = isOpaque(cluster, { kind: "pod", object }, port);
  const proxy = proxyPorts(object);
  // A pod of another control plane may have other roots: clients must not expect our names of it.
  const name =
    controlPlane === cluster.controlPlaneNamespace
      ? serviceAccountIdentity(cluster, namespace, object.spec?.serviceAccountName ?? "default")
      : undefined;
  const throughProxy = (opaque || cluster.transportHeader) && port !== proxy.admin && port !== proxy.control;
  return {
    metricLabels,
    ...(name !== undefined && {
      tlsIdentity: { strategy: { case: "dnsLikeIdentity", value: { name } }, serverName: { name } },
    }),
    protocolHint: {
      protocol: { case: opaque ? "opaque" : "h2", value: {} },
      ...(throughProxy && { opaqueTransport: { inboundPort: proxy.inbound } }),
    },
    http2: HTTP2,
  };
}

function gateway({ gatewayIdentity: name, authorityOverride }: Endpoint): EndpointMessage {
  return {
    ...(name !== undefined && {
      tlsIdentity: { strategy: { case: "dnsLikeIdentity", value: { name } } },
      protocolHint: { protocol: { case: "h2", value: {} } },
      http2: HTTP2,
    }),
    ...(authorityOverride !== undefined && { authorityOverride: { authorityOverride } }),
  };
}

/**
 * The ports of a pod's proxy, from the variables of its container. The lab's pods are processes, not containers: where
 * Linkerd would skip a pod without them, the usual ports are taken.
 */
function proxyPorts(object: Pod): typeof PROXY_PORTS {
  const env = object.spec?.containers?.find(({ name }) => name === "linkerd-proxy")?.env ?? [];
  const read = (variable: string, otherwise: number): number => {
    const value = env.find(({ name }) => name === `LINKERD2_PROXY_${variable}_LISTEN_ADDR`)?.value;
    return Number(value?.match(/:(\d+)$/)?.[1] ?? otherwise);
  };
  return {
    inbound: read("INBOUND", PROXY_PORTS.inbound),
    admin: read("ADMIN", PROXY_PORTS.admin),
    control: read("CONTROL", PROXY_PORTS.control),
  };
}

function podLabels(object: Pod): Readonly<Record<string, string>> {
  const { name, labels = {} } = object.metadata;
  const hash = labels["pod-template-hash"];
  const controlPlane = labels["linkerd.io/control-plane-ns"];
  return {
    pod: name,
    serviceaccount: object.spec?.serviceAccountName ?? "default",
    ...(controlPlane !== undefined && { control_plane_ns: controlPlane }),
    ...(hash !== undefined && { pod_template_hash: hash }),
    ...ownerLabel(object),
  };
}

/** Kind and name of the one owner; a ReplicaSet stands for the Deployment whose template it is. */
function ownerLabel(
  { metadata }: Pod | ExternalWorkload,
  ownerKind?: Endpoint["ownerKind"],
): Readonly<Record<string, string>> {
  const [owner, ...others] = metadata.ownerReferences ?? [];
  if (owner === undefined || others.length > 0) return {};
  const hash = metadata.labels?.["pod-template-hash"];
  if (owner.kind === "ReplicaSet" && hash !== undefined && owner.name.endsWith(`-${hash}`)) {
    return { deployment: owner.name.slice(0, -hash.length - 1) };
  }
  return { [ownerKind === "verbatim" ? owner.kind : owner.kind.toLowerCase()]: owner.name };
}
