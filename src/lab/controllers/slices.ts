import type { Endpoint, EndpointPort, EndpointSlice, Service } from "./objects.ts";
import { isHeadless } from "./objects.ts";

/** Endpoints that share an address family and a set of ports, and so may share slices. */
export interface EndpointGroup {
  readonly addressType: "IPv4" | "IPv6";
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

/** Who writes slices, and how it signs them. */
export interface SliceOwner {
  /** Value of the label `endpointslice.kubernetes.io/managed-by`. */
  readonly managedBy: string;
  /** Before the Service's name in `generateName`. */
  readonly prefix: string;
}

/** What to do to the slices of one Service. */
export interface SlicePlan {
  readonly create: readonly EndpointSlice[];
  readonly update: readonly EndpointSlice[];
  readonly remove: readonly EndpointSlice[];
}

export const SERVICE_NAME = "kubernetes.io/service-name";
export const MANAGED_BY = "endpointslice.kubernetes.io/managed-by";
const HEADLESS = "service.kubernetes.io/headless";

// The default of both controllers: a larger slice costs every watcher its size at each change.
const MAX_ENDPOINTS = 100;

/** Puts endpoints into groups by family and ports. */
export class EndpointGroups {
  readonly #groups = new Map<
    string,
    { addressType: "IPv4" | "IPv6"; ports: readonly EndpointPort[]; endpoints: Endpoint[] }
  >();

  add(addressType: "IPv4" | "IPv6", ports: readonly EndpointPort[], endpoint: Endpoint): void {
    const key = groupKey(addressType, ports);
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = { addressType, ports, endpoints: [] };
      this.#groups.set(key, group);
    }
    group.endpoints.push(endpoint);
  }

  all(): readonly EndpointGroup[] {
    return [...this.#groups.values()];
  }
}

/**
 * Compares what a Service should have with the slices it has. Endpoints stay in the slice where they are; new ones
 * fill slices that are not full; a slice left empty goes.
 *
 * @param existing - Slices of this owner for this Service.
 */
export function planSlices(
  owner: SliceOwner,
  service: Service,
  wanted: readonly EndpointGroup[],
  existing: readonly EndpointSlice[],
): SlicePlan {
  const create: EndpointSlice[] = [];
  const update: EndpointSlice[] = [];
  const remove: EndpointSlice[] = [];
  const left = new Set(existing.filter((slice) => belongsTo(slice, service)));
  // Slices of an older Service of the same name, or that somebody gave to another one.
  for (const slice of existing) if (!left.has(slice)) remove.push(slice);

  for (const group of wanted) {
    const key = groupKey(group.addressType, group.ports);
    const pending = new Map(group.endpoints.map((endpoint) => [endpointKey(endpoint), endpoint]));
    const kept: { slice: EndpointSlice; endpoints: Endpoint[] }[] = [];
    for (const slice of left) {
      if (groupKey(slice.addressType, slice.ports) !== key) continue;
      left.delete(slice);
      const endpoints: Endpoint[] = [];
      for (const endpoint of slice.endpoints) {
        const now = pending.get(endpointKey(endpoint));
        if (now !== undefined) endpoints.push(now);
        pending.delete(endpointKey(endpoint));
      }
      kept.push({ slice, endpoints });
    }
    const fresh = [...pending.values()];
    // The fullest first: fewer slices, and fewer of them touched.
    kept.sort((a, b) => b.endpoints.length - a.endpoints.length);
    for (const { slice, endpoints } of kept) {
      endpoints.push(...fresh.splice(0, MAX_ENDPOINTS - endpoints.length));
      if (endpoints.length === 0) remove.push(slice);
      else if (differs(owner, service, slice, endpoints)) update.push(sliceOf(owner, service, group, endpoints, slice));
    }
    while (fresh.length > 0) create.push(sliceOf(owner, service, group, fresh.splice(0, MAX_ENDPOINTS)));
  }
  return { create, update, remove: [...remove, ...left] };
}

function groupKey(addressType: string, ports: readonly EndpointPort[]): string {
  const said = ports.map((port) => `${port.name ?? ""}/${port.protocol}/${port.port}`).sort();
  return `${addressType} ${said.join(" ")}`;
}

function endpointKey(endpoint: Endpoint): string {
  return `${endpoint.targetRef.uid} ${endpoint.addresses.join(" ")}`;
}

function belongsTo(slice: EndpointSlice, service: Service): boolean {
  return slice.metadata.ownerReferences?.some((owner) => owner.uid === service.metadata.uid) ?? false;
}

function differs(owner: SliceOwner, service: Service, slice: EndpointSlice, endpoints: readonly Endpoint[]): boolean {
  const labels = labelsOf(owner, service);
  const present = slice.metadata.labels ?? {};
  return (
    Object.keys(labels).length !== Object.keys(present).length ||
    Object.entries(labels).some(([key, value]) => present[key] !== value) ||
    slice.endpoints.length !== endpoints.length ||
    slice.endpoints.some((endpoint, index) => !same(endpoint, endpoints[index]))
  );
}

function same(a: Endpoint, b: Endpoint | undefined): boolean {
  return (
    b !== undefined &&
    endpointKey(a) === endpointKey(b) &&
    a.conditions.ready === b.conditions.ready &&
    a.conditions.serving === b.conditions.serving &&
    a.conditions.terminating === b.conditions.terminating &&
    a.targetRef.kind === b.targetRef.kind &&
    a.targetRef.name === b.targetRef.name &&
    a.zone === b.zone &&
    a.hostname === b.hostname &&
    a.nodeName === b.nodeName
  );
}

function labelsOf(owner: SliceOwner, service: Service): Record<string, string> {
  return {
    ...service.metadata.labels,
    [SERVICE_NAME]: service.metadata.name,
    [MANAGED_BY]: owner.managedBy,
    ...(isHeadless(service) ? { [HEADLESS]: "" } : {}),
  };
}

function sliceOf(
  owner: SliceOwner,
  service: Service,
  group: EndpointGroup,
  endpoints: readonly Endpoint[],
  existing?: EndpointSlice,
): EndpointSlice {
  const { name, namespace = "", uid = "" } = service.metadata;
  const reference = { apiVersion: "v1", kind: "Service", name, uid, controller: true, blockOwnerDeletion: true };
  const metadata = {
    ...existing?.metadata,
    ...(existing ? {} : { generateName: `${owner.prefix}${name}-` }),
    namespace,
    labels: labelsOf(owner, service),
    ownerReferences: [reference],
  };
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    // A new slice has no name until the API server makes one up.
    metadata: metadata as EndpointSlice["metadata"],
    addressType: group.addressType,
    ports: group.ports,
    endpoints,
  };
}
