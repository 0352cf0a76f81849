import { isIPv4, isIPv6 } from "node:net";
import {
  type EndpointPort,
  type ExternalWorkload,
  familiesOf,
  isHeadless,
  isReady,
  type Service,
  selects,
} from "./objects.ts";
import { type EndpointGroup, EndpointGroups, type SliceOwner } from "./slices.ts";

/** How Linkerd's controller signs. */
export const EXTERNAL_OWNER: SliceOwner = {
  managedBy: "linkerd-external-workloads-controller",
  prefix: "linkerd-external-",
};

const ZONE = "topology.kubernetes.io/zone";

/** Whether Linkerd's controller looks at a Service at all. */
export function wantsExternalEndpoints(service: Service): boolean {
  if (service.metadata.namespace === "kube-system" || service.spec.type === "ExternalName") return false;
  return Object.keys(service.spec.selector ?? {}).length > 0;
}

/**
 * The endpoints that ExternalWorkloads give a Service, as Linkerd's controller makes them: only the Ready condition
 * counts, `publishNotReadyAddresses` and a pending deletion do not, and a port must be declared to match. A workload that
 * matches no port of the Service stands in a slice without ports.
 *
 * @param workloads - Of the Service's namespace.
 */
export function externalEndpoints(service: Service, workloads: readonly ExternalWorkload[]): readonly EndpointGroup[] {
  const groups = new EndpointGroups();
  for (const workload of workloads) {
    if (!selects(service, workload)) continue;
    // Possibly none: such a slice has addresses for DNS, where the Service is headless, and no port for anybody to dial.
    const ports = matchPorts(service, workload);
    for (const family of familiesOf(service)) {
      const addresses = addressesOf(workload, family);
      if (addresses.length === 0) continue;
      const ready = isReady(workload);
      const { name, namespace = "", uid = "", labels } = workload.metadata;
      const zone = labels?.[ZONE];
      groups.add(family, ports, {
        addresses,
        conditions: { ready, serving: ready, terminating: false },
        targetRef: { kind: "ExternalWorkload", namespace, name, uid },
        ...(zone === undefined ? {} : { zone }),
        ...(isHeadless(service) ? { hostname: name } : {}),
      });
    }
  }
  return groups.all();
}

function addressesOf(workload: ExternalWorkload, family: "IPv4" | "IPv6"): string[] {
  const all = (workload.spec.workloadIPs ?? []).map((item) => item.ip ?? "");
  // The schema lets any text through; what is no address at all goes where the API server will refuse the slice.
  return all.filter((ip) => (family === "IPv6" ? isIPv6(ip) : isIPv4(ip) || !isIPv6(ip)));
}

function matchPorts(service: Service, workload: ExternalWorkload): EndpointPort[] {
  const matched: EndpointPort[] = [];
  for (const port of service.spec.ports ?? []) {
    const target = port.targetPort ?? port.port;
    const protocol = port.protocol ?? "TCP";
    const found = workload.spec.ports?.find(
      (declared) =>
        (typeof target === "string" ? declared.name === target : declared.port === target) &&
        (declared.protocol ?? "TCP") === protocol,
    );
    if (found !== undefined) matched.push({ ...(port.name ? { name: port.name } : {}), port: found.port, protocol });
  }
  return matched;
}
