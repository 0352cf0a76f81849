import { Lab } from "./up.ts";

/** The mesh that `lab up` and the demo bring up: one namespace, a pod that is called and calls, a VM that does too. */
export const SAMPLE = {
  namespace: "shop",
  pod: "web",
  vm: "vm-1",
  group: "legacy-app",
  port: 8080,
  grpcPort: 9090,
  tcpPort: 5432,
} as const;

export interface SampleOptions {
  readonly id?: string;
  /** Whether the VM joins the mesh. */
  readonly join: boolean;
  readonly progress: (step: string) => void;
  /** Aborted: do no more than is begun, and return what there is. */
  readonly signal: AbortSignal;
}

/** Brings the sample mesh up. Nothing is left behind if that fails. */
export async function bringUp(options: SampleOptions): Promise<Lab> {
  const { progress, signal } = options;
  const lab = await Lab.start({ progress, ...(options.id === undefined ? {} : { id: options.id }) });
  try {
    const steps = [() => addPod(lab), () => addVm(lab), ...(options.join ? [() => joinVm(lab)] : [])];
    for (const step of steps) {
      if (signal.aborted) break;
      await step();
    }
    return lab;
  } catch (error) {
    await lab.stop();
    throw error;
  }
}

/** The pod and the Services of both workloads. */
export async function addPod(lab: Lab): Promise<void> {
  const { namespace, pod, group, port, grpcPort, tcpPort } = SAMPLE;
  await lab.createNamespace(namespace);
  for (const app of [pod, group]) {
    await lab.createService({
      namespace,
      name: app,
      app,
      ports: [
        { name: "http", port: 80, targetPort: port },
        { name: "grpc", port: grpcPort, targetPort: grpcPort },
        { name: "tcp", port: tcpPort, targetPort: tcpPort },
      ],
      opaquePorts: [tcpPort],
    });
  }
  await lab.addPod({ namespace, name: pod, app: pod, apps: sampleApps(), opaquePorts: [tcpPort] });
}

/** The VM, not yet in the mesh. */
export async function addVm(lab: Lab): Promise<void> {
  await lab.addVm(SAMPLE.vm, sampleApps());
}

/** Invites the VM's group as an administrator would, and joins the VM. */
export async function joinVm(lab: Lab): Promise<void> {
  const { join } = await inviteVm(lab);
  await lab.join(SAMPLE.vm, join);
}

export function inviteVm(lab: Lab): Promise<{ command: readonly string[]; join: string }> {
  const { namespace, group, port, grpcPort, tcpPort } = SAMPLE;
  const ports = [
    { name: "http", port },
    { name: "grpc", port: grpcPort },
    { name: "tcp", port: tcpPort },
  ];
  return lab.invite({ namespace, group, ports, probe: `http:${port}/healthz` });
}

function sampleApps() {
  return [
    { kind: "http", port: SAMPLE.port },
    { kind: "grpc", port: SAMPLE.grpcPort },
    { kind: "tcp", port: SAMPLE.tcpPort },
  ] as const;
}
