import { isMap, type Json, type JsonMap } from "./json.ts";

/**
 * Which lists of the built-in kinds are keyed, and by what. A list that is not named here is one value: whoever
 * writes it writes all of it. Lists of custom resources are atomic unless their schema says otherwise, and those of
 * ExternalWorkload do not.
 */
const KEYED: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  Service: { "spec.ports": ["port", "protocol"] },
  ServiceAccount: { secrets: ["name"], imagePullSecrets: ["name"] },
  Pod: podLists("spec"),
  Deployment: podLists("spec.template.spec"),
  DaemonSet: podLists("spec.template.spec"),
};

const METADATA: Readonly<Record<string, readonly string[]>> = { "metadata.ownerReferences": ["uid"] };
const CONDITIONS: Readonly<Record<string, readonly string[]>> = { "status.conditions": ["type"] };

function podLists(spec: string): Record<string, readonly string[]> {
  const lists: Record<string, readonly string[]> = {
    [`${spec}.volumes`]: ["name"],
    [`${spec}.imagePullSecrets`]: ["name"],
    [`${spec}.hostAliases`]: ["ip"],
  };
  for (const containers of [`${spec}.containers`, `${spec}.initContainers`]) {
    lists[containers] = ["name"];
    lists[`${containers}.env`] = ["name"];
    lists[`${containers}.ports`] = ["containerPort", "protocol"];
    lists[`${containers}.volumeMounts`] = ["mountPath"];
  }
  return lists;
}

/**
 * The keys of a list in a kind, or undefined for an atomic list.
 *
 * @param path - Dotted, without indices: `spec.template.spec.containers.ports`.
 */
export function listKeys(kind: string, path: string): readonly string[] | undefined {
  return METADATA[path] ?? (KEYED[kind] ? (KEYED[kind][path] ?? CONDITIONS[path]) : undefined);
}

/** What a key counts as where the item leaves it out; Kubernetes defaults the protocol of every port. */
function keyDefault(key: string): Json {
  return key === "protocol" ? "TCP" : "";
}

/** The identity of an item of a keyed list, in the notation of managed fields: `{"port":80,"protocol":"TCP"}`. */
export function itemKey(item: Json | undefined, keys: readonly string[]): string {
  const key: JsonMap = {};
  for (const name of keys) key[name] = (isMap(item) ? item[name] : undefined) ?? keyDefault(name);
  return JSON.stringify(key);
}
