import type { outbound } from "../../proto/index.ts";
import type { LoadMessage } from "./annotations.ts";
import type { Cluster } from "./cluster.ts";
import { durationMessage } from "./duration.ts";
import type { Init } from "./message.ts";
import { type MetadataMessage, refMetadata } from "./metadata.ts";
import { tcpMessage } from "./net.ts";
import type { BackendRef, Service } from "./objects.ts";
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
  | { readonly kind: "ok"; readonly backend: BackendMessage; readonly weight: number }
  /** The proxy gets a backend that cannot be dispatched to, with a filter that says so. */
  | { readonly kind: "invalid"; readonly backend: BackendMessage; readonly weight: number; readonly why: string };

/** Where traffic goes if no route says otherwise. */
export function defaultBackend(cluster: Cluster, parent: Parent): BackendMessage {
  switch (parent.kind) {
    case "Service":
      return serviceBackend(cluster, parent, parent);
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
  { load }: Pick<Parent, "load">,
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
export function forwardBackend(originalDst: OriginalDst | undefined, metadata: MetadataMessage): BackendMessage {
  const addr = originalDst && tcpMessage(originalDst.ip, originalDst.port);
  if (addr === undefined) return { metadata, queue: QUEUE };
  return { metadata, queue: QUEUE, kind: { case: "forward", value: { addr, weight: 1 } } };
}

/** Finds what a route's `backendRefs` entry names. */
export function resolveBackend(cluster: Cluster, parent: Parent, home: string, ref: BackendRef): Resolved {
  const { group = "", kind = "Service", name, namespace = home, port = 0, weight = 1 } = ref;
  const metadata = refMetadata({ group, kind, name, namespace }, port);
  const invalid = (why: string): Resolved => ({ kind: "invalid", backend: { metadata, queue: QUEUE }, weight, why });
  if ((group === "" || group === "core") && kind === "Service") {
    if (port === 0) return invalid(`no port given for service ${name}`);
    const service = cluster.store.get<Service>(KINDS.services, namespace, name);
    if (service === undefined) return invalid(`Service not found ${name}`);
    return { kind: "ok", backend: serviceBackend(cluster, { namespace, name, port }, parent), weight };
  }
  if (group === "policy.linkerd.io" && kind === "EgressNetwork") {
    const same = parent.kind === "EgressNetwork" && parent.name === name && parent.namespace === namespace;
    if (!same || parent.originalDst === undefined) return invalid(`EgressNetwork not allowed here ${name}`);
    return { kind: "ok", backend: forwardBackend(parent.originalDst, metadata), weight };
  }
  return invalid(`unsupported backend type ${group}/${kind}`);
}
