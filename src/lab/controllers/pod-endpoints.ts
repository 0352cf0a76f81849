import { isIPv4 } from "node:net";
import { type EndpointPort, familiesOf, isReady, type Pod, type Service, selects } from "./objects.ts";
import { type EndpointGroup, EndpointGroups, type SliceOwner } from "./slices.ts";

/** How Kubernetes' controller signs. */
export const POD_OWNER: SliceOwner = { managedBy: "endpointslice-controller.k8s.io", prefix: "" };

/** Whether Kubernetes makes slices for a Service. */
export function wantsPodEndpoints(service: Service): boolean {
  return service.spec.type !== "ExternalName" && Object.keys(service.spec.selector ?? {}).length > 0;
}

/**
 * The endpoints that pods give a Service, as Kubernetes makes them.
 *
 * @param pods - Of the Service's namespace.
 */
export function podEndpoints(service: Service, pods: readonly Pod[]): readonly EndpointGroup[] {
  const groups = new EndpointGroups();
  for (const pod of pods) {
    const phase = pod.status?.phase;
    if (!selects(service, pod) || phase === "Succeeded" || phase === "Failed") continue;
    const ports = matchPorts(service, pod);
    for (const family of familiesOf(service)) {
      const addresses = addressesOf(pod).filter((ip) => isIPv4(ip) === (family === "IPv4"));
      const [address] = addresses;
      if (address === undefined) continue;
      const serving = isReady(pod);
      const terminating = pod.metadata.deletionTimestamp !== undefined;
      const ready = service.spec.publishNotReadyAddresses === true || (serving && !terminating);
      const { name, namespace = "", uid = "" } = pod.metadata;
      groups.add(family, ports, {
        addresses: [address],
        conditions: { ready, serving, terminating },
        targetRef: { kind: "Pod", namespace, name, uid },
        ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
        ...(pod.spec.hostname && pod.spec.subdomain === service.metadata.name ? { hostname: pod.spec.hostname } : {}),
      });
    }
  }
  return groups.all();
}

function addressesOf(pod: Pod): readonly string[] {
  const all = (pod.status?.podIPs ?? []).map((item) => item.ip);
  const first = pod.status?.podIP;
  return all.length > 0 || first === undefined ? all : [first];
}

function matchPorts(service: Service, pod: Pod): EndpointPort[] {
  const matched: EndpointPort[] = [];
  for (const port of service.spec.ports ?? []) {
    const target = port.targetPort ?? port.port;
    const protocol = port.protocol ?? "TCP";
    // A number needs no declaration in a pod; a name does.
    const number = typeof target === "number" ? target : namedPort(pod, target, protocol);
    if (number !== undefined) matched.push({ ...(port.name ? { name: port.name } : {}), port: number, protocol });
  }
  return matched;
}

function namedPort(pod: Pod, name: string, protocol: string): number | undefined {
  for (const container of pod.spec.containers ?? []) {
    const found = container.ports?.find((port) => port.name === name && (port.protocol ?? "TCP") === protocol);
    if (found !== undefined) return found.containerPort;
  }
  return undefined;
}
