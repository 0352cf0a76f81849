import type { KubeObject, ResourceType } from "../../bootstrap/enroller/kubernetes.ts";
import { isMap, type JsonMap, listAt, mapAt, textAt } from "./json.ts";

/** Who makes a request. */
export interface User {
  readonly username: string;
  readonly groups: readonly string[];
}

/** What is asked for, in the words of RBAC. */
export interface Access {
  readonly verb: string;
  readonly group: string;
  /** Plural, with its subresource: `externalworkloads/status`. */
  readonly resource: string;
  /** undefined: cluster-wide, or all namespaces. */
  readonly namespace: string | undefined;
  readonly name: string | undefined;
}

/** May everything, as in any cluster. */
export const MASTERS = "system:masters";
/** The lab's own hands, and whoever holds the administrator's token. */
export const ADMINISTRATOR: User = { username: "kubernetes-admin", groups: [MASTERS, "system:authenticated"] };

/** A store, as far as rights need it. */
export interface RoleStore {
  list<T extends KubeObject>(type: ResourceType, namespace?: string): readonly T[];
  get<T extends KubeObject>(type: ResourceType, namespace: string | undefined, name: string): T | undefined;
}

const type = (plural: string): ResourceType => ({ group: "rbac.authorization.k8s.io", version: "v1", plural });

/**
 * Whether RBAC lets a user do something: some binding, cluster-wide or of the namespace, gives a role with a rule that
 * names group, resource, verb and, if it restricts them, name. Nobody is denied by rule, only not allowed.
 *
 * @returns the rule that allows it, as `ClusterRole NAME: GROUP/RESOURCE VERB`; undefined if there is none.
 */
export function authorize(store: RoleStore, user: User, access: Access): string | undefined {
  if (user.groups.includes(MASTERS)) return MASTERS;
  for (const binding of bindings(store, access.namespace)) {
    const map = binding as unknown as JsonMap;
    const home = binding.metadata.namespace;
    if (!listAt(map, "subjects").some((subject) => isMap(subject) && isSubject(subject, user, home))) continue;
    const reference = mapAt(map, "roleRef");
    const name = textAt(reference, "name") ?? "";
    const kind = textAt(reference, "kind");
    const role =
      kind === "ClusterRole" ? store.get(type("clusterroles"), undefined, name) : store.get(type("roles"), home, name);
    for (const rule of listAt((role ?? {}) as unknown as JsonMap, "rules")) {
      if (isMap(rule) && allows(rule, access)) {
        return `${kind} ${name}: ${access.group}/${access.resource} ${access.verb}`;
      }
    }
  }
  return undefined;
}

function bindings(store: RoleStore, namespace: string | undefined): readonly KubeObject[] {
  const everywhere = store.list(type("clusterrolebindings"));
  return namespace === undefined ? everywhere : [...everywhere, ...store.list(type("rolebindings"), namespace)];
}

function isSubject(subject: JsonMap, user: User, home: string | undefined): boolean {
  const name = textAt(subject, "name") ?? "";
  switch (subject["kind"]) {
    case "User":
      return user.username === name;
    case "Group":
      return user.groups.includes(name);
    case "ServiceAccount":
      return user.username === `system:serviceaccount:${textAt(subject, "namespace") ?? home}:${name}`;
    default:
      return false;
  }
}

function allows(rule: JsonMap, { verb, group, resource, name }: Access): boolean {
  const holds = (field: string, value: string) => {
    const list = listAt(rule, field);
    return list.includes(value) || list.includes("*");
  };
  const names = listAt(rule, "resourceNames");
  const named = names.length === 0 || (name !== undefined && names.includes(name));
  return named && holds("apiGroups", group) && holds("resources", resource) && holds("verbs", verb);
}
