import { formatSocketAddress, type SocketAddress } from "../proxy/core/address.ts";
import type { Endpoint } from "../proxy/core/endpoint.ts";
import type { Labels } from "../proxy/core/metrics.ts";
import type { Backend, ResourceRef } from "../proxy/policy/index.ts";
import type { ConnectionFailure, Peer } from "../proxy/stack/index.ts";

/*
 * The groups of labels that linkerd2-proxy's families are made of (telemetry.md §2.1), in its order. Their names there
 * are the italics here.
 */

/** *target* */
export function targetLabels(address: SocketAddress): Labels {
  return { target_addr: formatSocketAddress(address), target_ip: address.ip, target_port: String(address.port) };
}

/** *srv* */
export function serverLabels(ref: ResourceRef, port: number): Labels {
  return { srv_group: ref.group, srv_kind: ref.kind.toLowerCase(), srv_name: ref.name, srv_port: String(port) };
}

/** *tls-accept* */
export function tlsAccept({ client, noTls }: Peer): Labels {
  if (client.tls !== "none") return { tls: "true", client_id: client.id ?? "" };
  if (noTls?.kind === "foreign") return { tls: "opaque", sni: noTls.sni };
  const reason = noTls?.kind === "skipped" ? "port_skipped" : "no_tls_from_remote";
  return { tls: "no_identity", no_tls_reason: reason };
}

/** *rt*, or with its namespace *oroute*. */
export function routeLabels(ref: ResourceRef, withNamespace: boolean): Labels {
  return withNamespace
    ? { route_group: ref.group, route_kind: ref.kind, route_namespace: ref.namespace, route_name: ref.name }
    : { route_group: ref.group, route_kind: ref.kind, route_name: ref.name };
}

/** *authz* and the like, or in full *parent* and *backend*. */
export function refLabels(
  block: "parent" | "backend" | "authz" | "ratelimit",
  ref: ResourceRef,
  full: boolean,
): Labels {
  if (!full) return { [`${block}_group`]: ref.group, [`${block}_kind`]: ref.kind, [`${block}_name`]: ref.name };
  return {
    [`${block}_group`]: ref.group,
    [`${block}_kind`]: ref.kind,
    [`${block}_namespace`]: ref.namespace,
    [`${block}_name`]: ref.name,
    [`${block}_port`]: ref.port === 0 ? "" : String(ref.port),
    [`${block}_section_name`]: ref.section,
  };
}

/**
 * What follows *direction* for an endpoint of ours: authority, *target*, *tls-connect*, *dst*.
 * @param isLocal - It is this very workload, reached in clear text whatever discovery says of its identity.
 */
export function endpointLabels(endpoint: Endpoint, backend: Backend | undefined, isLocal: boolean): Labels {
  const labels: Record<string, string> = {};
  if (backend?.dispatch.kind === "balancer") labels["authority"] = backend.dispatch.path.replace(/:80$/, "");
  Object.assign(labels, targetLabels(endpoint.address));
  if (isLocal || endpoint.identity === undefined) {
    labels["tls"] = "no_identity";
    labels["no_tls_reason"] = isLocal ? "loopback" : "not_provided_by_service_discovery";
  } else {
    labels["tls"] = "true";
    labels["server_id"] = endpoint.identity.id;
  }
  for (const key of Object.keys(endpoint.labels).sort()) labels[`dst_${key}`] = endpoint.labels[key] ?? "";
  return labels;
}

// telemetry.md §1.6
const ERROR_LABELS: Partial<Record<ConnectionFailure, string>> = {
  "load-shed": "loadshed",
  failfast: "failfast",
  "loop-detected": "gateway loop",
  "connect-failed": "i/o",
  "connect-timeout": "i/o",
  "endpoint-reset": "i/o",
  "response-timeout": "response timeout",
  "identity-mismatch": "identity required",
  "identity-missing": "identity required",
  "tls-detect-timeout": "tls detection timeout",
  "gateway-refused": "gateway domain invalid",
  "too-many-connections": "too many connections",
};

/** `error` of the families that count what the proxy failed. */
export function errorLabel(failure: ConnectionFailure): string {
  return ERROR_LABELS[failure] ?? "unexpected";
}
