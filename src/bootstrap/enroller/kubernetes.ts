/** A Kubernetes object, as far as everything here needs to know it. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly generation?: number;
    readonly creationTimestamp?: string;
    readonly deletionTimestamp?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly {
      readonly kind: string;
      readonly name: string;
      readonly uid: string;
      readonly apiVersion: string;
      readonly controller?: boolean;
    }[];
    readonly finalizers?: readonly string[];
  };
}

/** Names a collection, such as `{ group: "workload.linkerd.io", version: "v1beta1", plural: "externalworkloads" }`. */
export interface ResourceType {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
}

export type WatchEvent<T> =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: T }
  /** The first list is complete. */
  | { readonly type: "SYNCED" };

/** An answer of the API server that is not a success. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  /** HTTP status: 404, 409 (conflict or already exists), 403, 410, 422, 5xx; 0 if the server was not reached. */
  readonly code: number;
  /** `NotFound`, `Conflict`, `AlreadyExists` … as in the Status object. */
  readonly reason: string;
  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

/**
 * The Kubernetes API, as narrow as the enroller needs it. The real client and the lab implement it. Every method
 * rejects with {@link KubeError}.
 */
export interface KubeClient {
  /** undefined if there is none. */
  get<T extends KubeObject>(type: ResourceType, namespace: string | undefined, name: string): Promise<T | undefined>;
  list<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<readonly T[]>;
  /** Lists, then watches, for ever: resumes and re-lists by itself. Returns the way to stop. */
  watch<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    listener: (event: WatchEvent<T>) => void,
    onProblem?: (error: KubeError) => void,
  ): () => void;
  create<T extends KubeObject>(type: ResourceType, namespace: string | undefined, object: T): Promise<T>;
  /** Full replacement; 409 unless `metadata.resourceVersion` is the stored one. */
  update<T extends KubeObject>(type: ResourceType, namespace: string | undefined, object: T): Promise<T>;
  /** Server-side apply, forced. `subresource: "status"` writes the status alone. */
  apply<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    object: T,
    fieldManager: string,
    subresource?: "status",
  ): Promise<T>;
  /** No error if it is gone already. */
  delete(type: ResourceType, namespace: string | undefined, name: string): Promise<void>;
}
