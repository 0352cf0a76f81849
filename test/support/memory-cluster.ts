import type { KubeObject, ResourceType } from "../../src/bootstrap/enroller/kubernetes.ts";
import type { ClusterEvent, ClusterStore } from "../../src/lab/linkerd/index.ts";

type Named<T> = Omit<T, "metadata"> & {
  readonly metadata: { readonly name: string } & Partial<KubeObject["metadata"]>;
};

/** A cluster's memory without any of an API server's rules: what is put is what is read. */
export class MemoryCluster implements ClusterStore {
  readonly #collections = new Map<string, Map<string, KubeObject>>();
  readonly #listeners = new Set<(event: ClusterEvent) => void>();
  #version = 0;

  /** Streams that still listen. */
  get listeners(): number {
    return this.#listeners.size;
  }

  put<T extends KubeObject>(type: ResourceType, object: Named<T>): void {
    const collection = this.#collection(type);
    const { namespace, name } = object.metadata;
    const resourceVersion = String(++this.#version);
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion } };
    const key = `${namespace ?? ""}/${name}`;
    const event = collection.has(key) ? "MODIFIED" : "ADDED";
    collection.set(key, stored);
    for (const listener of [...this.#listeners]) listener({ type: event, resourceType: type, object: stored });
  }

  delete(type: ResourceType, namespace: string | undefined, name: string): void {
    const key = `${namespace ?? ""}/${name}`;
    const object = this.#collection(type).get(key);
    if (object === undefined || !this.#collection(type).delete(key)) return;
    for (const listener of [...this.#listeners]) listener({ type: "DELETED", resourceType: type, object });
  }

  list<T extends KubeObject>(type: ResourceType, namespace?: string): readonly T[] {
    const all = [...this.#collection(type).values()];
    // Whoever asks for a type knows its shape, as with a real API.
    return all.filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace) as unknown as T[];
  }

  get<T extends KubeObject>(type: ResourceType, namespace: string | undefined, name: string): T | undefined {
    return this.#collection(type).get(`${namespace ?? ""}/${name}`) as T | undefined;
  }

  watch(listener: (event: ClusterEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #collection({ group, plural }: ResourceType): Map<string, KubeObject> {
    const key = `${group}/${plural}`;
    let collection = this.#collections.get(key);
    if (collection === undefined) {
      collection = new Map();
      this.#collections.set(key, collection);
    }
    return collection;
  }
}
