import type { KubeObject } from "../bootstrap/enroller/kubernetes.ts";

// The lab writes objects as YAML would have them; their kinds are the API server's to check.
function object(apiVersion: string, kind: string, metadata: KubeObject["metadata"], rest: object = {}): KubeObject {
  return { apiVersion, kind, metadata, ...rest };
}

/** A port of a workload or a service. */
export interface NamedPort {
  readonly name: string;
  readonly port: number;
}

export function namespace(name: string): KubeObject {
  return object("v1", "Namespace", { name });
}

export function serviceAccount(home: string, name: string): KubeObject {
  return object("v1", "ServiceAccount", { name, namespace: home });
}

export function configMap(home: string, name: string, data: Readonly<Record<string, string>>): KubeObject {
  return object("v1", "ConfigMap", { name, namespace: home }, { data });
}

export function secret(
  home: string,
  name: string,
  type: string,
  stringData: Readonly<Record<string, string>>,
): KubeObject {
  return object("v1", "Secret", { name, namespace: home }, { type, stringData });
}

export interface ServiceWish {
  readonly selector: Readonly<Record<string, string>>;
  readonly ports: readonly (NamedPort & { readonly targetPort?: number | string })[];
  readonly headless?: boolean;
  readonly annotations?: Readonly<Record<string, string>>;
}

export function service(home: string, name: string, wish: ServiceWish): KubeObject {
  const { selector, ports, headless = false, annotations = {} } = wish;
  const spec = { selector, ports, ...(headless ? { clusterIP: "None" } : {}) };
  return object("v1", "Service", { name, namespace: home, annotations }, { spec });
}

export interface PodWish {
  readonly ip: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ports: readonly NamedPort[];
  readonly now: Date;
}

/** A pod as it looks once its kubelet and its proxy have said that all is well. */
export function readyPod(home: string, name: string, wish: PodWish): KubeObject {
  const since = wish.now.toISOString();
  const containers = [
    {
      name: "app",
      image: "lab/app",
      ports: wish.ports.map(({ name: said, port }) => ({ name: said, containerPort: port })),
    },
    {
      name: "linkerd-proxy",
      image: "lab/mesh-agent",
      // Destination reads from these where the proxy listens.
      env: [
        { name: "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", value: "0.0.0.0:4143" },
        { name: "LINKERD2_PROXY_ADMIN_LISTEN_ADDR", value: "0.0.0.0:4191" },
        { name: "LINKERD2_PROXY_CONTROL_LISTEN_ADDR", value: "0.0.0.0:4190" },
      ],
      ports: [{ name: "linkerd-proxy", containerPort: 4143 }],
    },
  ];
  const running = containers.map((container) => ({
    name: container.name,
    image: container.image,
    imageID: "",
    ready: true,
    restartCount: 0,
    state: { running: { startedAt: since } },
  }));
  return object(
    "v1",
    "Pod",
    { name, namespace: home, labels: wish.labels, annotations: wish.annotations ?? {} },
    {
      spec: { serviceAccountName: wish.serviceAccount, nodeName: "lab", containers },
      status: {
        phase: "Running",
        podIP: wish.ip,
        podIPs: [{ ip: wish.ip }],
        hostIP: wish.ip,
        startTime: since,
        conditions: ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map((type) => ({
          type,
          status: "True",
          lastTransitionTime: since,
        })),
        containerStatuses: running,
      },
    },
  );
}
