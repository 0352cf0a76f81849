import type {
  EndpointSlice,
  ExternalWorkload,
  Pod,
  RouteObject,
  Server,
  Service,
} from "../../src/lab/linkerd/objects.ts";

// Small objects for tests of the lab's control plane, all in the namespace `ns`.

/** A Service with the ClusterIP 10.96.0.`n` and one port. */
export function service(name: string, n: number, port: Partial<ServicePort> = {}, annotations = {}): Service {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "ns", annotations },
    spec: {
      type: "ClusterIP",
      clusterIP: `10.96.0.${n}`,
      ports: [{ name: "http", port: 80, targetPort: 8080, ...port }],
    },
  };
}

type ServicePort = NonNullable<NonNullable<Service["spec"]>["ports"]>[number];

/** A meshed pod of the account `NAME-sa`, with one port. */
export function pod(name: string, podIP: string, metadata: Partial<Pod["metadata"]> = {}): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "ns", labels: { app: name, "linkerd.io/control-plane-ns": "linkerd" }, ...metadata },
    spec: {
      serviceAccountName: `${name}-sa`,
      containers: [{ name: "app", ports: [{ name: "http", containerPort: 8080 }] }],
    },
    status: { phase: "Running", podIP },
  };
}

/** A ready ExternalWorkload with the ports 8080 and 3306. */
export function externalWorkload(name: string, ip: string, annotations: Record<string, string> = {}): ExternalWorkload {
  return {
    apiVersion: "workload.linkerd.io/v1beta1",
    kind: "ExternalWorkload",
    metadata: { name, namespace: "ns", labels: { app: name }, annotations },
    spec: {
      meshTLS: { identity: `spiffe://cluster.local/ns/ns/sa/${name}`, serverName: `${name}.ns.test` },
      ports: [
        { name: "http", port: 8080, protocol: "TCP" },
        { name: "db", port: 3306, protocol: "TCP" },
      ],
      workloadIPs: [{ ip }],
    },
    status: { conditions: [{ type: "Ready", status: "True" }] },
  };
}

/** A slice of a Service's port `http`, 8080, with one endpoint for each object. */
export function slice(of: string, endpoints: readonly (Pod | ExternalWorkload)[], isReady = true): EndpointSlice {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `${of}-1`, namespace: "ns", labels: { "kubernetes.io/service-name": of } },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    endpoints: endpoints.map((object) => ({
      addresses: [addressOf(object)],
      conditions: { ready: isReady },
      targetRef: { kind: object.kind, namespace: "ns", name: object.metadata.name },
    })),
  };
}

/** A Server for the ExternalWorkloads with the label `app`. */
export function server(name: string, app: string, port: number | string, spec: Server["spec"] = {}): Server {
  return {
    apiVersion: "policy.linkerd.io/v1beta3",
    kind: "Server",
    metadata: { name, namespace: "ns", creationTimestamp: "2026-01-01T00:00:00Z" },
    spec: { externalWorkloadSelector: { matchLabels: { app } }, port, ...spec },
  };
}

function addressOf(object: Pod | ExternalWorkload): string {
  const { status, spec } = object as Pod & ExternalWorkload;
  return status?.podIP ?? spec?.workloadIPs?.[0]?.ip ?? "";
}

/** A route of the Service `web`'s port 80, unless `spec` names other parents. */
export function route(
  name: string,
  spec: RouteObject<never>["spec"],
  metadata = {},
  kind = "HTTPRoute",
): RouteObject<never> {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind,
    metadata: { name, namespace: "ns", ...metadata },
    spec: { parentRefs: [{ group: "", kind: "Service", name: "web", port: 80 }], ...spec },
  };
}
