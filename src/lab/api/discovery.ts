import type { Resource } from "./catalog.ts";
import type { JsonMap } from "./json.ts";

const VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/** What the lab says it is: the oldest release that the rest of the system supports. */
export const VERSION_INFO: JsonMap = {
  major: "1",
  minor: "31",
  gitVersion: "v1.31.0+mesh-agent-lab",
  gitCommit: "",
  gitTreeState: "clean",
  buildDate: "1970-01-01T00:00:00Z",
  goVersion: "",
  compiler: "",
  platform: `linux/${process.arch === "x64" ? "amd64" : process.arch}`,
};

/** `GET /api`. */
export function coreVersions(): JsonMap {
  return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
}

/** `GET /apis`. */
export function groupList(resources: readonly Resource[]): JsonMap {
  const names = new Set(resources.map((resource) => resource.group).filter((name) => name !== ""));
  for (const name of Object.keys(VIRTUAL)) names.add(name);
  const groups = [...names].map((name) => group(resources, name) ?? {});
  return { kind: "APIGroupList", apiVersion: "v1", groups: groups.map(({ kind: _, apiVersion: __, ...rest }) => rest) };
}

/** `GET /apis/GROUP`; undefined if there is no such group. */
export function group(resources: readonly Resource[], name: string): JsonMap | undefined {
  const versions = new Set<string>(name in VIRTUAL ? ["v1"] : []);
  for (const resource of resources) {
    if (resource.group === name) for (const version of resource.versions) versions.add(version);
  }
  const list = [...versions].sort(byMaturity).map((version) => ({ groupVersion: `${name}/${version}`, version }));
  const [preferred] = list;
  if (preferred === undefined) return undefined;
  return { kind: "APIGroup", apiVersion: "v1", name, versions: list, preferredVersion: preferred };
}

// Kubernetes prefers v2 to v1, v1 to v1beta9, v1beta2 to v1beta1, v1beta1 to v1alpha9.
function byMaturity(a: string, b: string): number {
  const rank = (text: string): number => {
    const [, major = "0", stage, minor = "0"] = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(text) ?? [];
    return (stage === undefined ? 2e9 : stage === "beta" ? 1e9 : 0) + Number(major) * 1e4 + Number(minor);
  };
  return rank(b) - rank(a);
}

/** Kinds that are asked but never stored. */
const VIRTUAL: Readonly<Record<string, readonly { readonly name: string; readonly kind: string }[]>> = {
  "authentication.k8s.io": [{ name: "tokenreviews", kind: "TokenReview" }],
  "authorization.k8s.io": [
    { name: "selfsubjectaccessreviews", kind: "SelfSubjectAccessReview" },
    { name: "subjectaccessreviews", kind: "SubjectAccessReview" },
  ],
};

/** `GET /api/v1` or `GET /apis/GROUP/VERSION`; undefined if nothing is served there. */
export function resourceList(resources: readonly Resource[], name: string, version: string): JsonMap | undefined {
  const list: JsonMap[] = [];
  for (const resource of resources) {
    if (resource.group !== name || !resource.versions.includes(version)) continue;
    const { plural, singular, namespaced, kind } = resource;
    const entry: JsonMap = { name: plural, singularName: singular, namespaced, kind, verbs: VERBS };
    if (resource.shortNames.length > 0) entry["shortNames"] = [...resource.shortNames];
    if (resource.categories.length > 0) entry["categories"] = [...resource.categories];
    list.push(entry);
    if (resource.status) {
      list.push({ name: `${plural}/status`, singularName: "", namespaced, kind, verbs: ["get", "patch", "update"] });
    }
    if (kind === "ServiceAccount") {
      const token = { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" };
      list.push({ name: `${plural}/token`, singularName: "", namespaced, ...token, verbs: ["create"] });
    }
  }
  for (const { name: plural, kind } of version === "v1" ? (VIRTUAL[name] ?? []) : []) {
    list.push({ name: plural, singularName: kind.toLowerCase(), namespaced: false, kind, verbs: ["create"] });
  }
  if (list.length === 0) return undefined;
  const groupVersion = name === "" ? version : `${name}/${version}`;
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion, resources: list };
}
