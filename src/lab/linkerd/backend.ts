import type { outbound } from "../../proto/index.ts";
import type { LoadMessage } from "./annotations.ts";
import type { Cluster } from "./cluster.ts";
import { durationMessage } from "./duration.ts";
import type { Init } from "./message.ts";
import { defaultMetadata, type MetadataMessage, refMetadata } from "./metadata.ts";
import { tcpMessage } from "./net.ts";
import type { BackendRef, Service } from "./objects.ts";
import { type FilterKind, filterKinds } from "./route-filter.ts";
import { KINDS } from "./store.ts";

export type BackendMessage = Init<typeof outbound.BackendSchema>;

/** Where a client wanted to go, before interception. */
export interface OriginalDst {
  readonly ip: string;
  readonly port: number;
}

/** What a policy is for: a port of a Service, or an address outside of the cluster. */
export interface Parent {
  readonly group: "" | "policy.linkerd.io";
  readonly kind: "Service" | "EgressNetwork";
  readonly namespace: string;
  readonly name: string;
  readonly port: number;
  /** The looked-up address where there was one: what an egress policy forwards to. */
  readonly originalDst: OriginalDst | undefined;
  readonly load: LoadMessage;
}

const QUEUE = { capacity: 100, failfastTimeout: durationMessage(3000) };

/** A backend, or why there is none. */
export type Resolved =
  | {
      readonly kind: "ok";
      readonly backend: BackendMessage;
      readonly weight: number;
      readonly filters: readonly FilterKind[];
    }
  /** The proxy gets a backend that cannot be dispatched to, with a filter that says so. */
  | { readonly kind: "invalid"; readonly backend: BackendMessage; readonly weight: number; readonly why: string };

/** Where traffic goes if no route says otherwise. */
export function defaultBackend(cluster: Cluster, parent: Parent): BackendMessage {
  switch (parent.kind) {
    case "Service":
      return serviceBackend(cluster, parent, parent.load);
    case "EgressNetwork":
      return forwardBackend(parent.originalDst, refMetadata(parent, parent.port));
    default:
      return parent.kind satisfies never;
  }
}

/** A balancer over the endpoints of a Service port. */
export function serviceBackend(
  cluster: Cluster,
  at: { readonly namespace: string; readonly name: string; readonly port: number },
  load: LoadMessage,
): BackendMessage {
  const path = `${at.name}.${at.namespace}.svc.${cluster.clusterDomain}:${at.port}`;
  const { namespace, name } = at;
  return {
    metadata: refMetadata({ group: "core", kind: "Service", namespace, name }, at.port),
    queue: QUEUE,
    kind: { case: "balancer", value: { discovery: { kind: { case: "dst", value: { path } } }, load } },
  };
}

/** Straight to where the client wanted to go. */
export function forwardBackend(
  originalDst: OriginalDst | undefined,
  metadata: MetadataMessage,
  weight = 1,
): BackendMessage {
  const addr = originalDst && tcpMessage(originalDst.ip, originalDst.port);
  if (addr === undefined) return { metadata, queue: QUEUE };
  return { metadata, queue: QUEUE, kind: { case: "forward", value: { addr, weight } } };
}

/**
 * Finds what a route's `backendRefs` entry names. A reference without a namespace means that of the **parent**: for a
 * consumer's route that is not its own, whatever Gateway API says.
 *
 * @param load - Of a balancer.
 */
export function resolveBackend(cluster: Cluster, parent: Parent, ref: BackendRef, load: LoadMessage): Resolved {
  const { group = "", kind = "Service", name, namespace = parent.namespace, port = 0, weight = 1 } = ref;
  const invalid = (why: string, metadata = defaultMetadata("invalid")): Resolved => ({
    kind: "invalid",
    backend: { metadata, queue: QUEUE },
    weight,
    why,
  });
  const isService = isOneOf(group, ["", "core"]) && isOneOf(kind, ["service"]);
  const isEgress = isOneOf(group, ["policy.linkerd.io"]) && isOneOf(kind, ["egressnetwork"]);
  if (!isService && !isEgress) return invalid(`unsupported backend type ${group || "core"} ${kind}`);
  const filters = filterKinds(ref.filters);
  if (filters === undefined) return invalid("unsupported backend filter: unknown filter");
  if (isService) {
    if (port === 0) return invalid(`missing port for backend Service ${name}`);
    const service = cluster.store.get<Service>(KINDS.services, namespace, name);
    const metadata = refMetadata({ group: "core", kind: "Service", name, namespace }, port);
    if (service === undefined) return invalid(`Service not found ${name}`, metadata);
    return { kind: "ok", backend: serviceBackend(cluster, { namespace, name, port }, load), weight, filters };
  }
  const at = port || (parent.originalDst?.port ?? 0);
  const metadata = refMetadata({ group: "policy.linkerd.io", kind: "EgressNetwork", name, namespace }, at);
  if (cluster.store.get(KINDS.egressNetworks, namespace, name) === undefined) {
    return invalid(`EgressNetwork not found ${name}`, metadata);
  }
  if (parent.kind !== "EgressNetwork" || parent.originalDst === undefined) {
    return invalid("EgressNetwork backends attach to EgressNetwork parents only", metadata);
  }
  if (parent.name !== name || parent.namespace !== namespace) {
    return invalid("Route with EgressNetwork backend needs to have the same EgressNetwork as a parent", metadata);
  }
  return { kind: "ok", backend: forwardBackend(parent.originalDst, metadata, weight), weight, filters };
}

function isOneOf(text: string, names: readonly string[]): boolean {
  return names.includes(text.toLowerCase());
}
