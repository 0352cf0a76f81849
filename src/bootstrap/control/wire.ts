import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  MeshConfigurationSchema,
  ProbeSchema,
  MeshConfiguration as WireConfiguration,
  Probe as WireProbe,
} from "../../proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import type { MeshConfiguration, Probe, ProbeKind } from "./mesh-configuration.ts";
import { isIdentityPart } from "./names.ts";

/** For the enroller: configuration → message. */
export function encodeConfiguration(value: MeshConfiguration): MessageInitShape<typeof MeshConfigurationSchema> {
  return {
    ...value,
    clusterNetworks: [...value.clusterNetworks],
    captureNetworks: [...value.captureNetworks],
    destination: { ...value.destination, addresses: [...value.destination.addresses] },
    policy: { ...value.policy, addresses: [...value.policy.addresses] },
    ports: value.ports.map((port) => ({ ...port })),
    probes: value.probes.map(encodeProbe),
    opaquePorts: [...value.opaquePorts],
  };
}

/**
 * For the host: message → configuration.
 * @returns undefined if it is not complete; it comes from our own enroller, so that means a version we cannot read.
 */
export function decodeConfiguration(message: WireConfiguration): MeshConfiguration | undefined {
  const { destination, policy, workload } = message;
  if (destination === undefined || policy === undefined || workload === undefined) return undefined;
  if (!isIdentityPart(message.trustDomain) || !isIdentityPart(message.controlPlaneNamespace)) return undefined;
  const probes: Probe[] = [];
  for (const probe of message.probes) {
    const check = decodeCheck(probe);
    // A kind from a later version: not checking it would claim a readiness that nobody has seen.
    if (check === undefined) return undefined;
    const { periodMs, timeoutMs, successThreshold, failureThreshold, initialDelayMs } = probe;
    probes.push({ check, periodMs, timeoutMs, successThreshold, failureThreshold, initialDelayMs });
  }
  return {
    trustDomain: message.trustDomain,
    clusterDomain: message.clusterDomain,
    controlPlaneNamespace: message.controlPlaneNamespace,
    clusterNetworks: message.clusterNetworks,
    captureNetworks: message.captureNetworks,
    destination: { addresses: destination.addresses, tlsName: destination.tlsName },
    policy: { addresses: policy.addresses, tlsName: policy.tlsName },
    workload: { namespace: workload.namespace, name: workload.name, serviceAccount: workload.serviceAccount },
    ports: message.ports.map(({ name, port }) => ({ name, port, protocol: "TCP" })),
    probes,
    opaquePorts: message.opaquePorts,
    defaultInboundPolicy: message.defaultInboundPolicy,
    policyToken: message.policyToken,
    contextToken: message.contextToken,
  };
}

function encodeProbe({ check, ...rest }: Probe): MessageInitShape<typeof ProbeSchema> {
  switch (check.kind) {
    case "http":
      return { ...rest, kind: { case: "http", value: { port: check.port, path: check.path } } };
    case "tcp":
      return { ...rest, kind: { case: "tcp", value: { port: check.port } } };
    case "grpc":
      return { ...rest, kind: { case: "grpc", value: { port: check.port, service: check.service } } };
    case "exec":
      return { ...rest, kind: { case: "exec", value: { command: [...check.command] } } };
    default:
      return check satisfies never;
  }
}

function decodeCheck({ kind }: WireProbe): ProbeKind | undefined {
  switch (kind.case) {
    case "http":
      return { kind: "http", port: kind.value.port, path: kind.value.path };
    case "tcp":
      return { kind: "tcp", port: kind.value.port };
    case "grpc":
      return { kind: "grpc", port: kind.value.port, service: kind.value.service };
    case "exec":
      return { kind: "exec", command: kind.value.command };
    case undefined:
      return undefined;
    default:
      return kind satisfies never;
  }
}
