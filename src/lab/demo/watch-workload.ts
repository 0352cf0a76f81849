import type { KubeClient, KubeObject } from "../../bootstrap/enroller/kubernetes.ts";
import { TYPES } from "../api/index.ts";
import type { Transition } from "./report.ts";

interface ExternalWorkload extends KubeObject {
  readonly spec?: {
    readonly meshTLS: { readonly identity: string };
    readonly workloadIPs?: readonly { readonly ip: string }[];
  };
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason?: string }[];
  };
}

/** Writes down each change of readiness of the ExternalWorkloads of a namespace. */
export class WorkloadDiary {
  readonly transitions: Transition[] = [];
  readonly #stop: () => void;
  readonly #since = performance.now();
  #onReady: () => void = () => {};

  constructor(client: KubeClient, namespace: string) {
    this.#stop = client.watch<ExternalWorkload>(TYPES.externalWorkloads, namespace, (event) => {
      if (event.type === "ADDED" || event.type === "MODIFIED") this.#note(event.object);
    });
  }

  /** Waits until one of them is Ready. */
  async ready(timeoutMs: number): Promise<boolean> {
    const isReady = () => this.transitions.some((transition) => transition.ready === "True");
    if (isReady()) return true;
    return await new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      this.#onReady = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  close(): void {
    this.#stop();
  }

  #note(object: ExternalWorkload): void {
    const condition = object.status?.conditions?.find(({ type }) => type === "Ready");
    const transition: Transition = {
      name: `${object.metadata.namespace}/${object.metadata.name}`,
      afterSeconds: (performance.now() - this.#since) / 1000,
      ready: condition?.status ?? "-",
      reason: condition?.reason ?? "Created",
      identity: object.spec?.meshTLS.identity ?? "",
      address: object.spec?.workloadIPs?.[0]?.ip ?? "",
    };
    const last = this.transitions.at(-1);
    if (last?.ready === transition.ready && last.reason === transition.reason) return;
    this.transitions.push(transition);
    if (transition.ready === "True") this.#onReady();
  }
}
