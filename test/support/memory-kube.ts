import {
  type KubeClient,
  KubeError,
  type KubeObject,
  type ResourceType,
  type WatchEvent,
} from "../../src/bootstrap/enroller/kubernetes.ts";

type Listener = (event: WatchEvent<KubeObject>) => void;

/**
 * Kubernetes in memory, as far as the enroller needs it: resource versions and conflicts, status apart from the rest
 * for kinds that have a status subresource, watches that answer asynchronously.
 */
export class MemoryKube implements KubeClient {
  readonly #objects = new Map<string, KubeObject>();
  readonly #watches = new Set<{
    readonly type: ResourceType;
    readonly namespace: string | undefined;
    readonly listener: Listener;
  }>();
  #version = 100;
  /** Every write, in order: `apply externalworkloads/status shop/app-1`. */
  readonly writes: string[] = [];
  /** Set to make calls fail: gets the same texts as {@link writes}, and `get …`, `list …`. */
  fault: ((call: string) => KubeError | undefined) | undefined;
  /** Set to make calls wait; gets the same texts. */
  delay: ((call: string) => Promise<void>) | undefined;

  async get<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
  ): Promise<T | undefined> {
    await this.#pass(`get ${type.plural} ${namespace}/${name}`);
    // The caller names the type, as with the real client.
    return this.#objects.get(key(type, namespace, name)) as T | undefined;
  }

  async list<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<readonly T[]> {
    await this.#pass(`list ${type.plural} ${namespace}`);
    return this.#all(type, namespace).filter((object) => selects(labelSelector, object)) as unknown as T[];
  }

  watch<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    listener: (event: WatchEvent<T>) => void,
  ): () => void {
    const watch = { type, namespace, listener: listener as Listener };
    queueMicrotask(() => {
      for (const object of this.#all(type, namespace)) watch.listener({ type: "ADDED", object });
      watch.listener({ type: "SYNCED" });
      this.#watches.add(watch);
    });
    return () => this.#watches.delete(watch);
  }

  async create<T extends KubeObject>(type: ResourceType, namespace: string | undefined, object: T): Promise<T> {
    await this.#pass(`create ${type.plural} ${namespace}/${object.metadata.name}`);
    if (this.#objects.has(key(type, namespace, object.metadata.name))) {
      throw new KubeError(409, "AlreadyExists", "exists already");
    }
    return this.#store(type, namespace, object) as T;
  }

  async update<T extends KubeObject>(type: ResourceType, namespace: string | undefined, object: T): Promise<T> {
    await this.#pass(`update ${type.plural} ${namespace}/${object.metadata.name}`);
    const stored = this.#objects.get(key(type, namespace, object.metadata.name));
    if (stored === undefined) throw new KubeError(404, "NotFound", "not found");
    if (stored.metadata.resourceVersion !== object.metadata.resourceVersion) {
      throw new KubeError(409, "Conflict", "the object has been modified");
    }
    return this.#store(type, namespace, object) as T;
  }

  async apply<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    object: T,
    _fieldManager: string,
    subresource?: "status",
  ): Promise<T> {
    const what = subresource === undefined ? type.plural : `${type.plural}/${subresource}`;
    await this.#pass(`apply ${what} ${namespace}/${object.metadata.name}`);
    const stored = this.#objects.get(key(type, namespace, object.metadata.name)) as
      | (KubeObject & { status?: unknown })
      | undefined;
    if (subresource === "status") {
      if (stored === undefined) throw new KubeError(404, "NotFound", "not found");
      const { status } = object as KubeObject & { status?: unknown };
      return this.#store(type, namespace, { ...stored, status } as KubeObject) as T;
    }
    const version = object.metadata.resourceVersion;
    if (version !== undefined && version !== stored?.metadata.resourceVersion) {
      throw new KubeError(409, "Conflict", "the object has been modified");
    }
    const { status: _dropped, ...rest } = object as KubeObject & { status?: unknown };
    return this.#store(type, namespace, {
      ...rest,
      metadata: { ...stored?.metadata, ...object.metadata },
      ...(stored?.status === undefined ? {} : { status: stored.status }),
    } as KubeObject) as T;
  }

  async delete(type: ResourceType, namespace: string | undefined, name: string): Promise<void> {
    await this.#pass(`delete ${type.plural} ${namespace}/${name}`);
    const at = key(type, namespace, name);
    const object = this.#objects.get(at);
    if (object === undefined) return;
    this.#objects.delete(at);
    this.#tell(type, namespace, { type: "DELETED", object });
  }

  #store(type: ResourceType, namespace: string | undefined, object: KubeObject): KubeObject {
    const at = key(type, namespace, object.metadata.name);
    const known = this.#objects.has(at);
    const stored = structuredClone({
      ...object,
      metadata: {
        ...object.metadata,
        ...(namespace !== undefined && { namespace }),
        uid: object.metadata.uid ?? `uid-${this.#version}`,
        resourceVersion: String(++this.#version),
      },
    });
    this.#objects.set(at, stored);
    this.#tell(type, namespace, { type: known ? "MODIFIED" : "ADDED", object: stored });
    return stored;
  }

  #tell(type: ResourceType, namespace: string | undefined, event: WatchEvent<KubeObject>): void {
    for (const watch of this.#watches) {
      if (watch.type.plural !== type.plural || (watch.namespace ?? namespace) !== namespace) continue;
      queueMicrotask(() => watch.listener(event));
    }
  }

  #all(type: ResourceType, namespace: string | undefined): KubeObject[] {
    const prefix = namespace === undefined ? `${type.plural} ` : `${type.plural} ${namespace}/`;
    return [...this.#objects].filter(([at]) => at.startsWith(prefix)).map(([, object]) => object);
  }

  async #pass(call: string): Promise<void> {
    await (this.delay?.(call) ?? Promise.resolve());
    const error = this.fault?.(call);
    if (error !== undefined) throw error;
    if (!call.startsWith("get ") && !call.startsWith("list ")) this.writes.push(call);
  }
}

function key(type: ResourceType, namespace: string | undefined, name: string): string {
  return `${type.plural} ${namespace}/${name}`;
}

function selects(selector: string | undefined, object: KubeObject): boolean {
  if (selector === undefined) return true;
  return selector.split(",").every((term) => {
    const [name = "", value] = term.split("=");
    const label = object.metadata.labels?.[name];
    return value === undefined ? label !== undefined : label === value;
  });
}
