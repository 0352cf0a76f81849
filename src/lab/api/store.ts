import { randomUUID } from "node:crypto";
import type { KubeObject, ResourceType } from "../../bootstrap/enroller/kubernetes.ts";
import { type AdmissionContext, admit, sameIntent } from "./admission.ts";
import { applyFields, trackUpdate, type Writer } from "./apply.ts";
import { CATALOG, type Resource, TYPES } from "./catalog.ts";
import { definitionOf, resourceOf } from "./definition.ts";
import { draft, ensureMap, equal, freeze, isMap, type JsonMap, listAt, mapAt, textAt } from "./json.ts";
import { enforcePolicies } from "./policy-admission.ts";
import { ADMINISTRATOR, type User } from "./rbac.ts";
import { admitBySchema } from "./schema.ts";
import { ServiceCidr } from "./service-cidr.ts";
import { alreadyExists, badRequest, conflict, LabError, notFound } from "./status.ts";

/** One change of the store. Objects are frozen. */
export interface StoreEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  /** The collection, at its stored version. */
  readonly resourceType: ResourceType;
  readonly resource: Resource;
  readonly object: KubeObject;
  /** What it was before; absent for ADDED. */
  readonly previous?: KubeObject;
  /** Strictly rising; the object's resourceVersion. */
  readonly version: number;
}

export interface WriteOptions {
  /** Who owns what is written. */
  readonly fieldManager?: string;
  readonly subresource?: "status";
  /** Go through everything, store nothing. */
  readonly dryRun?: boolean;
  /** Who writes, for admission policies; the administrator unless said. */
  readonly user?: User;
}

export interface DeleteOptions {
  /** Preconditions. */
  readonly uid?: string;
  readonly resourceVersion?: string;
  /** Go through everything, delete nothing. */
  readonly dryRun?: boolean;
  /** Who deletes, for admission policies; the cluster itself, which none of them judges, unless said. */
  readonly user?: User;
}

export interface StoreOptions {
  /** Where ClusterIPs come from. */
  readonly serviceCidr?: string;
  /** Wall clock in milliseconds. */
  readonly now?: () => number;
  /** How many changes a watch may be behind before it is told 410. */
  readonly history?: number;
}

/**
 * The embedded cluster's memory: objects by kind, namespace and name, with the rules of a Kubernetes API server for
 * writing them. Everything is synchronous; what is handed out is frozen and stays what it was. Failures are
 * {@link LabError}.
 */
export class LabStore {
  readonly serviceCidr: ServiceCidr;
  readonly #now: () => number;
  readonly #historyLimit: number;
  readonly #resources = new Map<string, Resource>();
  readonly #collections = new Map<string, Map<string, JsonMap>>();
  readonly #listeners = new Set<(event: StoreEvent) => void>();
  readonly #undelivered: StoreEvent[] = [];
  #delivering = false;
  #history: StoreEvent[] = [];
  // The last change that is no longer in the history.
  #forgotten = 0;
  #version = 0;

  constructor(options: StoreOptions = {}) {
    this.serviceCidr = new ServiceCidr(options.serviceCidr ?? "10.96.0.0/16");
    this.#now = options.now ?? Date.now;
    this.#historyLimit = options.history ?? 4096;
    for (const resource of CATALOG) this.#register(resource);
    for (const resource of CATALOG) if (resource.custom) this.put(TYPES.definitions, definitionOf(resource));
    for (const name of ["default", "kube-system"]) {
      this.create(TYPES.namespaces, undefined, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
    }
    const cidr = { apiVersion: "networking.k8s.io/v1", kind: "ServiceCIDR", metadata: { name: "kubernetes" } };
    this.put(TYPES.serviceCidrs, { ...cidr, spec: { cidrs: [this.serviceCidr.text] } } as KubeObject);
  }

  /** The number of the last change: what a list answers as its resourceVersion. */
  get version(): number {
    return this.#version;
  }

  /** Every kind that is served. */
  resources(): readonly Resource[] {
    return [...this.#resources.values()];
  }

  /**
   * What is known about a collection.
   *
   * @throws LabError 404 if group, version or plural is not served.
   */
  resource(type: ResourceType): Resource {
    const resource = this.#resources.get(collectionKey(type.group, type.plural));
    if (resource === undefined || !resource.versions.includes(type.version)) {
      throw new LabError(404, "NotFound", "the server could not find the requested resource");
    }
    return resource;
  }

  /** All objects of a kind, of one namespace or of all, ordered by namespace and name. */
  list<T extends KubeObject>(type: ResourceType, namespace?: string): readonly T[] {
    const resource = this.resource(type);
    const found: JsonMap[] = [];
    for (const object of this.#collection(resource).values()) {
      if (namespace === undefined || textAt(mapAt(object, "metadata"), "namespace") === namespace) found.push(object);
    }
    found.sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
    return found.map((object) => presented<T>(resource, type.version, object));
  }

  get<T extends KubeObject>(type: ResourceType, namespace: string | undefined, name: string): T | undefined {
    const resource = this.resource(type);
    const object = this.#collection(resource).get(objectKey(resource, namespace, name));
    return object === undefined ? undefined : presented<T>(resource, type.version, object);
  }

  /** Hears every change of every kind, in order, from now on. Returns the way to stop. */
  watch(listener: (event: StoreEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The changes after a version; undefined if some of them are forgotten. */
  since(version: number): readonly StoreEvent[] | undefined {
    if (version < this.#forgotten) return undefined;
    return this.#history.filter((event) => event.version > version);
  }

  create<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    object: T,
    options: WriteOptions = {},
  ): T {
    const resource = this.resource(type);
    const next = draft(object as unknown as JsonMap);
    this.#fresh(resource, namespace, next);
    if (resource.status) delete next["status"];
    admit(resource, next, undefined, this.#context(undefined));
    this.#judge(resource, next, undefined, options);
    const name = textAt(mapAt(next, "metadata"), "name") ?? "";
    if (this.get(type, namespace, name) !== undefined) throw alreadyExists(resource.plural, resource.group, name);
    trackUpdate(resource.kind, { metadata: {} }, next, this.#writer(type, "Update", options), this.#timestamp());
    return presented<T>(resource, type.version, this.#commit(resource, undefined, next, options));
  }

  /** Stores an object as it is, status included, whether or not it exists. For the lab itself, not for clients. */
  put<T extends KubeObject>(type: ResourceType, object: T): T {
    const resource = this.resource(type);
    const next = draft(object as unknown as JsonMap);
    const { namespace, name } = object.metadata;
    const live = this.#collection(resource).get(objectKey(resource, namespace, name));
    this.#fresh(resource, namespace, next);
    if (live !== undefined) inheritIdentity(live, next);
    admit(resource, next, live, this.#context(live));
    return presented<T>(resource, type.version, this.#settle(resource, live, next, {}));
  }

  /** Full replacement: 404 if there is none, 409 unless the resourceVersion, if given, is the stored one. */
  update<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    object: T,
    options: WriteOptions = {},
  ): T {
    return this.modify<T>(type, namespace, object.metadata.name, () => object as unknown as JsonMap, options);
  }

  /**
   * Reads, changes and writes one object in one step.
   *
   * @param change - Gets the stored object, frozen, and returns the wanted one.
   */
  modify<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    change: (live: JsonMap) => JsonMap,
    options: WriteOptions = {},
  ): T {
    const resource = this.resource(type);
    const live = this.#live(resource, namespace, name);
    const next = draft(change(live));
    this.#confine(resource, live, next, options.subresource);
    admit(resource, next, live, this.#context(live));
    this.#judge(resource, next, live, options);
    trackUpdate(resource.kind, live, next, this.#writer(type, "Update", options), this.#timestamp());
    return presented<T>(resource, type.version, this.#settle(resource, live, next, options));
  }

  /** Server-side apply: creates what does not exist, merges into what does. */
  apply<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    object: T,
    options: WriteOptions & { readonly fieldManager: string; readonly force?: boolean },
  ): T {
    const resource = this.resource(type);
    const applied = draft(object as unknown as JsonMap);
    if (mapAt(applied, "metadata")["managedFields"] !== undefined)
      throw badRequest("metadata.managedFields must be nil");
    const { name } = object.metadata;
    const existing = this.#collection(resource).get(objectKey(resource, namespace, name));
    if (existing === undefined && options.subresource) throw notFound(resource.plural, resource.group, name);
    const base: JsonMap = existing ?? { metadata: {} };
    if (existing === undefined) this.#fresh(resource, namespace, applied);
    applied["apiVersion"] = apiVersion(resource, resource.versions[0]);
    applied["kind"] = resource.kind;
    const part = appliedPart(resource, applied, options.subresource);
    // Defaults first: an atomic list without them would differ from the stored one, and be contested for nothing.
    // What does not fit is reported by the admission of the merged object.
    if (resource.schema) admitBySchema(resource.schema, part);
    const writer = this.#writer(type, "Apply", options);
    const next = applyFields(resource.kind, base, part, writer, options.force === true, this.#timestamp());
    if (existing !== undefined) this.#confine(resource, existing, next, options.subresource);
    admit(resource, next, existing, this.#context(existing));
    this.#judge(resource, next, existing, options);
    return presented<T>(resource, type.version, this.#settle(resource, existing, next, options));
  }

  /**
   * Deletes, or marks as going while there are finalizers. Of what is deleted, the dependents go too.
   *
   * @returns The object as it was last.
   */
  delete(type: ResourceType, namespace: string | undefined, name: string, options: DeleteOptions = {}): KubeObject {
    const resource = this.resource(type);
    const live = this.#live(resource, namespace, name);
    const metadata = mapAt(live, "metadata");
    for (const field of ["uid", "resourceVersion"] as const) {
      if (options[field] !== undefined && options[field] !== metadata[field]) {
        const why = `the ${field} in the precondition (${options[field]}) does not match the ${field} in record (${metadata[field]})`;
        throw conflict(resource.plural, resource.group, name, why);
      }
    }
    const { user } = options;
    if (user !== undefined)
      enforcePolicies(this, { resource, operation: "DELETE", object: undefined, oldObject: live, user });
    if (options.dryRun) return presented(resource, type.version, live);
    if (resource.kind === "Namespace")
      return presented(resource, type.version, this.#deleteNamespace(resource, live, name));
    if (listAt(metadata, "finalizers").length === 0)
      return presented(resource, type.version, this.#remove(resource, live));
    return presented(resource, type.version, this.#markGoing(resource, live));
  }

  /** By the ValidatingAdmissionPolicies; none of ours names a subresource. */
  #judge(resource: Resource, object: JsonMap, oldObject: JsonMap | undefined, options: WriteOptions): void {
    if (options.subresource !== undefined) return;
    const operation = oldObject === undefined ? "CREATE" : "UPDATE";
    enforcePolicies(this, { resource, operation, object, oldObject, user: options.user ?? ADMINISTRATOR });
  }

  #register(resource: Resource): void {
    this.#resources.set(collectionKey(resource.group, resource.plural), resource);
  }

  #collection(resource: Resource): Map<string, JsonMap> {
    const key = collectionKey(resource.group, resource.plural);
    let collection = this.#collections.get(key);
    if (collection === undefined) {
      collection = new Map();
      this.#collections.set(key, collection);
    }
    return collection;
  }

  #live(resource: Resource, namespace: string | undefined, name: string): JsonMap {
    const live = this.#collection(resource).get(objectKey(resource, namespace, name));
    if (live === undefined) throw notFound(resource.plural, resource.group, name);
    return live;
  }

  #timestamp(): string {
    // Kubernetes keeps whole seconds.
    return `${new Date(this.#now()).toISOString().slice(0, 19)}Z`;
  }

  #writer(type: ResourceType, operation: Writer["operation"], options: WriteOptions): Writer {
    return {
      manager: options.fieldManager ?? "unknown",
      operation,
      apiVersion: type.group === "" ? type.version : `${type.group}/${type.version}`,
      subresource: options.subresource ?? "",
    };
  }

  #context(live: JsonMap | undefined): AdmissionContext {
    return {
      serviceCidr: this.serviceCidr,
      usedClusterIps: () => {
        const used = new Set<string>();
        for (const service of this.#collection(this.resource(TYPES.services)).values()) {
          const address = textAt(mapAt(service, "spec"), "clusterIP");
          if (service !== live && address !== undefined) used.add(address);
        }
        return used;
      },
    };
  }

  /** Gives a new object what the server decides: its place, its birth. */
  #fresh(resource: Resource, namespace: string | undefined, next: JsonMap): void {
    next["apiVersion"] = apiVersion(resource, resource.versions[0]);
    next["kind"] = resource.kind;
    const metadata = ensureMap(next, "metadata");
    for (const field of ["resourceVersion", "deletionTimestamp", "managedFields", "selfLink"]) delete metadata[field];
    const prefix = textAt(metadata, "generateName");
    if (metadata["name"] === undefined && prefix !== undefined) metadata["name"] = prefix + randomUUID().slice(-5);
    metadata["uid"] = randomUUID();
    metadata["creationTimestamp"] = this.#timestamp();
    if (counted(resource)) metadata["generation"] = 1;
    if (!resource.namespaced) {
      delete metadata["namespace"];
      return;
    }
    if (namespace === undefined) throw badRequest("an empty namespace may not be set during creation");
    if (metadata["namespace"] !== undefined && metadata["namespace"] !== namespace) {
      throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
    }
    metadata["namespace"] = namespace;
    const home = this.get(TYPES.namespaces, undefined, namespace);
    if (home === undefined) throw notFound("namespaces", "", namespace);
    if (home.metadata.deletionTimestamp !== undefined) {
      const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
      throw new LabError(403, "Forbidden", `${resource.plural} "${metadata["name"]}" is forbidden: ${why}`);
    }
  }

  /** Keeps a write within what it may change: never identity and birth, status only through its subresource. */
  #confine(resource: Resource, live: JsonMap, next: JsonMap, subresource: "status" | undefined): void {
    const metadata = ensureMap(next, "metadata");
    const before = mapAt(live, "metadata");
    const name = textAt(before, "name") ?? "";
    for (const field of ["name", "namespace"]) {
      if (metadata[field] !== undefined && metadata[field] !== before[field]) {
        throw badRequest(
          `the ${field} of the object (${metadata[field]}) does not match the ${field} on the URL (${before[field]})`,
        );
      }
    }
    if (metadata["uid"] !== undefined && metadata["uid"] !== before["uid"]) {
      const why = `Precondition failed: UID in precondition: ${metadata["uid"]}, UID in object meta: ${before["uid"]}`;
      throw conflict(resource.plural, resource.group, name, why);
    }
    const version = metadata["resourceVersion"];
    if (version !== undefined && version !== "" && version !== before["resourceVersion"]) {
      const why = "the object has been modified; please apply your changes to the latest version and try again";
      throw conflict(resource.plural, resource.group, name, why);
    }
    next["apiVersion"] = apiVersion(resource, resource.versions[0]);
    next["kind"] = resource.kind;
    inheritIdentity(live, next);
    if (!resource.status) return;
    if (subresource === "status") {
      const { status } = next;
      const managed = metadata["managedFields"];
      for (const key of Object.keys(next)) delete next[key];
      Object.assign(next, draft(live));
      if (status === undefined) delete next["status"];
      else next["status"] = status;
      if (managed !== undefined) mapAt(next, "metadata")["managedFields"] = managed;
    } else if (live["status"] === undefined) delete next["status"];
    else next["status"] = draft(live["status"]);
  }

  /** Ends a write: nothing changed, changed, or the last finalizer went. */
  #settle(resource: Resource, live: JsonMap | undefined, next: JsonMap, options: WriteOptions): JsonMap {
    if (live === undefined) return this.#commit(resource, undefined, next, options);
    if (equal(timeless(live), timeless(next))) return live;
    const metadata = mapAt(next, "metadata");
    if (counted(resource) && !sameIntent(live, next)) {
      const generation = mapAt(live, "metadata")["generation"];
      metadata["generation"] = (typeof generation === "number" ? generation : 0) + 1;
    }
    if (metadata["deletionTimestamp"] !== undefined && listAt(metadata, "finalizers").length === 0 && !options.dryRun) {
      return this.#remove(resource, live);
    }
    return this.#commit(resource, live, next, options);
  }

  #commit(resource: Resource, live: JsonMap | undefined, next: JsonMap, options: WriteOptions): JsonMap {
    const version = this.#version + 1;
    mapAt(next, "metadata")["resourceVersion"] = String(version);
    freeze(next);
    if (options.dryRun) return next;
    this.#version = version;
    const metadata = mapAt(next, "metadata");
    const key = objectKey(resource, textAt(metadata, "namespace"), textAt(metadata, "name") ?? "");
    this.#collection(resource).set(key, next);
    this.#afterwards(resource, next, live === undefined);
    this.#announce(resource, live === undefined ? "ADDED" : "MODIFIED", next, live);
    return next;
  }

  #afterwards(resource: Resource, object: JsonMap, created: boolean): void {
    if (resource.kind === "CustomResourceDefinition") {
      const defined = resourceOf(object);
      // What the lab knows from the start stays as its code has it.
      if (defined && !isCatalogued(defined)) this.#register(defined);
    }
    if (resource.kind === "Namespace" && created) {
      const namespace = textAt(mapAt(object, "metadata"), "name") ?? "";
      const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default", namespace } };
      this.put(TYPES.serviceAccounts, account);
    }
  }

  #remove(resource: Resource, live: JsonMap): JsonMap {
    const metadata = mapAt(live, "metadata");
    const namespace = textAt(metadata, "namespace");
    this.#collection(resource).delete(objectKey(resource, namespace, textAt(metadata, "name") ?? ""));
    this.#version++;
    const last = freeze({ ...live, metadata: { ...metadata, resourceVersion: String(this.#version) } });
    this.#announce(resource, "DELETED", last, live);
    if (resource.kind === "CustomResourceDefinition") this.#undefine(live);
    this.#collectGarbage(textAt(metadata, "uid") ?? "");
    if (namespace !== undefined) this.#finishNamespace(namespace);
    return last;
  }

  /** A definition takes its objects along, and its kind is served no more. */
  #undefine(definition: JsonMap): void {
    const defined = resourceOf(definition);
    if (defined === undefined || isCatalogued(defined)) return;
    const type = { group: defined.group, version: defined.versions[0], plural: defined.plural };
    for (const { metadata } of this.list(type)) this.delete(type, metadata.namespace, metadata.name);
    this.#resources.delete(collectionKey(defined.group, defined.plural));
  }

  #markGoing(resource: Resource, live: JsonMap): JsonMap {
    if (mapAt(live, "metadata")["deletionTimestamp"] !== undefined) return live;
    const next = draft(live);
    mapAt(next, "metadata")["deletionTimestamp"] = this.#timestamp();
    if (resource.kind === "Namespace") next["status"] = { phase: "Terminating" };
    return this.#commit(resource, live, next, {});
  }

  #deleteNamespace(resource: Resource, live: JsonMap, name: string): JsonMap {
    const going = this.#markGoing(resource, live);
    for (const content of this.#resources.values()) {
      if (!content.namespaced) continue;
      const type = { group: content.group, version: content.versions[0], plural: content.plural };
      for (const object of this.list(type, name)) {
        if (this.get(type, name, object.metadata.name) !== undefined) this.delete(type, name, object.metadata.name);
      }
    }
    this.#finishNamespace(name);
    return going;
  }

  /** Removes a namespace that is going once its last object is gone. */
  #finishNamespace(name: string): void {
    const resource = this.resource(TYPES.namespaces);
    const live = this.#collection(resource).get(objectKey(resource, undefined, name));
    if (live === undefined || mapAt(live, "metadata")["deletionTimestamp"] === undefined) return;
    for (const content of this.#resources.values()) {
      if (!content.namespaced) continue;
      for (const key of this.#collection(content).keys()) if (key.startsWith(`${name}/`)) return;
    }
    this.#remove(resource, live);
  }

  /** Deletes what was owned by a deleted object and by nobody else. */
  #collectGarbage(uid: string): void {
    for (const resource of this.#resources.values()) {
      for (const object of [...this.#collection(resource).values()]) {
        const metadata = mapAt(object, "metadata");
        const owners = listAt(metadata, "ownerReferences").filter(isMap);
        if (owners.length !== 1 || owners[0]?.["uid"] !== uid) continue;
        const type = { group: resource.group, version: resource.versions[0], plural: resource.plural };
        this.delete(type, textAt(metadata, "namespace"), textAt(metadata, "name") ?? "");
      }
    }
  }

  #announce(resource: Resource, type: StoreEvent["type"], object: JsonMap, previous: JsonMap | undefined): void {
    const event: StoreEvent = {
      type,
      resourceType: { group: resource.group, version: resource.versions[0], plural: resource.plural },
      resource,
      object: asObject(object),
      ...(previous ? { previous: asObject(previous) } : {}),
      version: Number(mapAt(object, "metadata")["resourceVersion"]),
    };
    this.#history.push(event);
    if (this.#history.length > this.#historyLimit * 2) {
      this.#forgotten = this.#history[this.#history.length - this.#historyLimit - 1]?.version ?? this.#forgotten;
      this.#history = this.#history.slice(-this.#historyLimit);
    }
    this.#undelivered.push(event);
    if (this.#delivering) return;
    // A listener may write: what it causes is delivered after the event that caused it, to everybody.
    this.#delivering = true;
    try {
      for (let next = this.#undelivered.shift(); next !== undefined; next = this.#undelivered.shift()) {
        for (const listener of [...this.#listeners]) listener(next);
      }
    } finally {
      this.#delivering = false;
    }
  }
}

function collectionKey(group: string, plural: string): string {
  return `${group}/${plural}`;
}

function isCatalogued({ group, plural }: Resource): boolean {
  return CATALOG.some((known) => known.group === group && known.plural === plural);
}

function objectKey(resource: Resource, namespace: string | undefined, name: string): string {
  return resource.namespaced ? `${namespace ?? ""}/${name}` : name;
}

function sortKey(object: JsonMap): string {
  const metadata = mapAt(object, "metadata");
  // A space sorts before every character of a name, so "a" comes before "a-b".
  return `${textAt(metadata, "namespace") ?? ""} ${textAt(metadata, "name")}`;
}

function apiVersion(resource: Resource, version: string): string {
  return resource.group === "" ? version : `${resource.group}/${version}`;
}

/** Kinds whose generation counts changes of intent; plain data has none. */
function counted(resource: Resource): boolean {
  return resource.custom || (resource.status && resource.group !== "");
}

// The store holds JSON; whoever asks for a kind knows its shape, as with any Kubernetes client.
function presented<T extends KubeObject>(resource: Resource, version: string, object: JsonMap): T {
  const stored = version === resource.versions[0];
  return (stored ? object : { ...object, apiVersion: apiVersion(resource, version) }) as unknown as T;
}

function asObject(object: JsonMap): KubeObject {
  return object as unknown as KubeObject;
}

function inheritIdentity(live: JsonMap, next: JsonMap): void {
  const from = mapAt(live, "metadata");
  const to = mapAt(next, "metadata");
  for (const field of [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
  ]) {
    const value = from[field];
    if (value === undefined) delete to[field];
    else to[field] = value;
  }
}

function appliedPart(resource: Resource, applied: JsonMap, subresource: "status" | undefined): JsonMap {
  const { status, ...rest } = applied;
  if (!resource.status) return applied;
  if (subresource === undefined) return rest;
  const { apiVersion: version = "", kind = "", metadata = {} } = applied;
  const named = isMap(metadata) ? { name: metadata["name"] ?? "", ...versionOf(metadata) } : {};
  return { apiVersion: version, kind, metadata: named, ...(status === undefined ? {} : { status }) };
}

function versionOf(metadata: JsonMap): JsonMap {
  const { resourceVersion, uid } = metadata;
  return { ...(resourceVersion === undefined ? {} : { resourceVersion }), ...(uid === undefined ? {} : { uid }) };
}

/** An object without what changes although nothing changed. */
function timeless(object: JsonMap): JsonMap {
  const metadata = mapAt(object, "metadata");
  const managed = listAt(metadata, "managedFields").map((entry) => (isMap(entry) ? { ...entry, time: "" } : entry));
  return { ...object, metadata: { ...metadata, managedFields: managed, resourceVersion: "" } };
}
