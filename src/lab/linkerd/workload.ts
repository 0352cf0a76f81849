import type { KubeObject } from "../../bootstrap/enroller/kubernetes.ts";
import type { Cluster } from "./cluster.ts";
import type { ExternalWorkload, Pod, Server } from "./objects.ts";
import type { NamedPort } from "./ports.ts";
import { selects } from "./selector.ts";
import { KINDS } from "./store.ts";

/** What policy and destination have to say something about. */
export type Workload =
  | { readonly kind: "pod"; readonly object: Pod }
  | { readonly kind: "external-workload"; readonly object: ExternalWorkload };

/** The TCP ports that a workload declares: only they have names. */
export function declaredPorts(workload: Workload): readonly NamedPort[] {
  const tcp = ({ protocol }: { readonly protocol?: string }): boolean => (protocol ?? "TCP") === "TCP";
  switch (workload.kind) {
    case "pod":
      return (workload.object.spec?.containers ?? [])
        .flatMap((container) => container.ports ?? [])
        .filter(tcp)
        .map(({ name, containerPort }) => ({ ...(name === undefined ? {} : { name }), port: containerPort }));
    case "external-workload":
      return (workload.object.spec?.ports ?? []).filter(tcp);
    default:
      return workload satisfies never;
  }
}

/**
 * The Servers of a workload's port: those whose selector matches the workload's labels and whose port is the number, or
 * the name of a declared port. The oldest first, then by name: the first is the one that rules the port.
 */
export function serversOf(cluster: Cluster, workload: Workload, port: number): readonly Server[] {
  const { namespace, labels } = workload.object.metadata;
  const named = declaredPorts(workload);
  const candidates = cluster.store.list<Server>(KINDS.servers, namespace).filter(({ spec }) => {
    const selector = workload.kind === "pod" ? spec?.podSelector : spec?.externalWorkloadSelector;
    if (selector === undefined || !selects(selector, labels)) return false;
    if (typeof spec?.port === "number") return spec.port === port;
    return named.some((declared) => declared.name === spec?.port && declared.port === port);
  });
  return candidates.toSorted(byAge);
}

/** Oldest first, what has no birth last; then by namespace and name. */
export function byAge(a: KubeObject, b: KubeObject): number {
  const key = ({ metadata: { creationTimestamp, namespace, name } }: KubeObject): string =>
    `${creationTimestamp ?? "~"}/${namespace ?? ""}/${name}`;
  return key(a) < key(b) ? -1 : 1;
}
