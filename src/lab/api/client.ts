import type {
  KubeClient,
  KubeError,
  KubeObject,
  ResourceType,
  WatchEvent,
} from "../../bootstrap/enroller/kubernetes.ts";
import type { JsonMap } from "./json.ts";
import { parseLabelSelector } from "./selector.ts";
import { LabError } from "./status.ts";
import type { LabStore, StoreEvent } from "./store.ts";

/** The {@link KubeClient} of programs that live in the same process as the store. */
export class LabKubeClient implements KubeClient {
  readonly #store: LabStore;
  readonly #fieldManager: string;

  /** @param fieldManager - Owner of what `create` and `update` write. */
  constructor(store: LabStore, fieldManager = "mesh-agent-lab") {
    this.#store = store;
    this.#fieldManager = fieldManager;
  }

  async get<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
  ): Promise<T | undefined> {
    return this.#store.get<T>(type, namespace, name);
  }

  async list<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<readonly T[]> {
    const all = this.#store.list<T>(type, namespace);
    if (labelSelector === undefined) return all;
    const selector = parseLabelSelector(labelSelector);
    return all.filter((object) => selector(object as unknown as JsonMap));
  }

  watch<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    listener: (event: WatchEvent<T>) => void,
    onProblem?: (error: KubeError) => void,
  ): () => void {
    let stopHearing = () => {};
    let stopped = false;
    const begin = () => {
      if (stopped) return;
      try {
        const { group, plural } = this.#store.resource(type);
        // The listener may write: what it causes waits until the first list is told.
        let early: WatchEvent<T>[] | undefined = [];
        const stop = this.#store.watch((event: StoreEvent) => {
          const of = event.resourceType;
          if (of.group !== group || of.plural !== plural) return;
          if (namespace !== undefined && event.object.metadata.namespace !== namespace) return;
          // The stored kind is what the caller asked for by type.
          const told = { type: event.type, object: event.object as T };
          if (early !== undefined) early.push(told);
          else listener(told);
        });
        stopHearing = () => void stop();
        for (const object of this.#store.list<T>(type, namespace)) listener({ type: "ADDED", object });
        listener({ type: "SYNCED" });
        for (let next = early.shift(); next !== undefined && !stopped; next = early.shift()) listener(next);
        early = undefined;
      } catch (error) {
        onProblem?.(error instanceof LabError ? error : new LabError(500, "InternalError", String(error)));
      }
    };
    // Never from within the call, as with a client that has a network to cross.
    queueMicrotask(begin);
    return () => {
      stopped = true;
      stopHearing();
    };
  }

  async create<T extends KubeObject>(type: ResourceType, namespace: string | undefined, object: T): Promise<T> {
    return this.#store.create(type, namespace, object, { fieldManager: this.#fieldManager });
  }

  async update<T extends KubeObject>(type: ResourceType, namespace: string | undefined, object: T): Promise<T> {
    const { name, resourceVersion } = object.metadata;
    if (resourceVersion === undefined)
      throw new LabError(409, "Conflict", `${type.plural} "${name}": no resourceVersion given`);
    return this.#store.update(type, namespace, object, { fieldManager: this.#fieldManager });
  }

  async apply<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    object: T,
    fieldManager: string,
    subresource?: "status",
  ): Promise<T> {
    const part = subresource === undefined ? {} : { subresource };
    return this.#store.apply(type, namespace, object, { fieldManager, force: true, ...part });
  }

  async delete(type: ResourceType, namespace: string | undefined, name: string): Promise<void> {
    if (this.#store.get(type, namespace, name) !== undefined) this.#store.delete(type, namespace, name);
  }
}
