import { equal, isMap, type Json, type JsonMap } from "./json.ts";
import { itemKey, listKeys } from "./list-keys.ts";

/**
 * A set of fields: a tree whose nodes are `f:name` for the field of a map and `k:{…}` for the item of a keyed list.
 * A node without children is a leaf: a scalar or an atomic list. Its text form is `fieldsV1` of managed fields, so
 * a set is kept in the very shape that is stored.
 */
export type FieldSet = JsonMap;

/** Metadata that nobody owns: it names the object, or the server writes it. */
const UNOWNED = new Set([
  "name",
  "namespace",
  "generateName",
  "uid",
  "resourceVersion",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "managedFields",
  "selfLink",
]);

/** The fields that an object states. */
export function fieldsOf(kind: string, object: JsonMap): FieldSet {
  const set: FieldSet = {};
  for (const [key, value] of Object.entries(object)) {
    if (key === "apiVersion" || key === "kind") continue;
    const child = key === "metadata" && isMap(value) ? metadataFields(kind, value) : valueFields(kind, key, value);
    if (key !== "metadata" || Object.keys(child).length > 0) set[`f:${key}`] = child;
  }
  return set;
}

function metadataFields(kind: string, metadata: JsonMap): FieldSet {
  const set: FieldSet = {};
  for (const [key, value] of Object.entries(metadata)) {
    if (!UNOWNED.has(key)) set[`f:${key}`] = valueFields(kind, `metadata.${key}`, value);
  }
  return set;
}

function valueFields(kind: string, path: string, value: Json): FieldSet {
  const set: FieldSet = {};
  if (isMap(value)) {
    for (const [key, item] of Object.entries(value)) set[`f:${key}`] = valueFields(kind, `${path}.${key}`, item);
  } else if (Array.isArray(value)) {
    const keys = listKeys(kind, path);
    for (const item of keys ? value : []) {
      set[`k:${itemKey(item, keys ?? [])}`] = { ".": {}, ...valueFields(kind, path, item) };
    }
  }
  return set;
}

/** Fields of `a` that are not in `b`. */
export function minus(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = {};
  for (const [key, child] of Object.entries(a)) {
    const other = b[key];
    if (!isMap(child)) continue;
    if (!isMap(other)) result[key] = child;
    else if (!isLeaf(child)) {
      const rest = minus(child, other);
      if (!isLeaf(rest)) result[key] = rest;
    }
  }
  return result;
}

/** Fields of either. */
export function plus(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = { ...a };
  for (const [key, child] of Object.entries(b)) {
    const other = result[key];
    result[key] = isMap(other) && isMap(child) ? plus(other, child) : child;
  }
  return result;
}

/** Fields of both. */
export function common(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = {};
  for (const [key, child] of Object.entries(a)) {
    const other = b[key];
    if (!isMap(child) || !isMap(other)) continue;
    const shared = common(child, other);
    if (isLeaf(child) || isLeaf(other) || !isLeaf(shared)) result[key] = shared;
  }
  return result;
}

export function isLeaf(set: FieldSet): boolean {
  return Object.keys(set).length === 0;
}

/** The fields that `after` has and `before` has not, or has with another value. */
export function changedFields(kind: string, before: JsonMap, after: JsonMap): FieldSet {
  return pruneEqual(kind, "", fieldsOf(kind, after), before, after);
}

function pruneEqual(
  kind: string,
  path: string,
  set: FieldSet,
  before: Json | undefined,
  after: Json | undefined,
): FieldSet {
  const result: FieldSet = {};
  for (const [key, child] of Object.entries(set)) {
    if (key === "." || !isMap(child)) continue;
    const inner = key.startsWith("f:") ? (path === "" ? key.slice(2) : `${path}.${key.slice(2)}`) : path;
    const [old, now] = [step(kind, inner, before, key), step(kind, inner, after, key)];
    if (equal(old, now)) continue;
    if (isLeaf(child) || old === undefined) result[key] = child;
    else {
      const deeper = pruneEqual(kind, inner, child, old, now);
      if (!isLeaf(deeper)) result[key] = deeper;
    }
  }
  return result;
}

/** Follows one node of a set into a value. */
function step(kind: string, path: string, value: Json | undefined, node: string): Json | undefined {
  if (node.startsWith("f:")) return isMap(value) ? value[node.slice(2)] : undefined;
  const keys = listKeys(kind, path);
  if (!Array.isArray(value) || keys === undefined) return undefined;
  return value.find((item) => `k:${itemKey(item, keys)}` === node);
}

/** Takes the fields of a set out of an object, in place; maps and items left empty go with them. */
export function removeFields(kind: string, set: FieldSet, object: JsonMap, path = ""): void {
  for (const [key, child] of Object.entries(set)) {
    if (!isMap(child) || !key.startsWith("f:")) continue;
    const name = key.slice(2);
    const value = object[name];
    const inner = path === "" ? name : `${path}.${name}`;
    if (Array.isArray(value) && !isLeaf(child)) {
      const rest = withoutItems(kind, inner, child, value);
      if (rest.length === 0 && value.length > 0) delete object[name];
      else object[name] = rest;
    } else if (isLeaf(child)) {
      delete object[name];
    } else if (isMap(value)) {
      removeFields(kind, child, value, inner);
      if (Object.keys(value).length === 0) delete object[name];
    }
    // What was a map and is none any more belongs to whoever changed it.
  }
}

function withoutItems(kind: string, path: string, set: FieldSet, list: readonly Json[]): Json[] {
  const keys = listKeys(kind, path) ?? [];
  return list.filter((item) => {
    const gone = set[`k:${itemKey(item, keys)}`];
    if (!isMap(gone) || !isMap(item)) return true;
    // "." is the item itself: its owner gives it up, so it goes as a whole.
    if (gone["."] !== undefined) return false;
    removeFields(kind, gone, item, path);
    return true;
  });
}

/** The leaves of a set in words: `.spec.ports[port=80].name`, for the message of a conflict. */
export function describeFields(set: FieldSet, prefix = ""): string[] {
  const said: string[] = [];
  for (const [key, child] of Object.entries(set)) {
    if (key === "." || !isMap(child)) continue;
    const name = key.startsWith("f:") ? `${prefix}.${key.slice(2)}` : `${prefix}[${keyText(key)}]`;
    said.push(...(isLeaf(child) ? [name] : describeFields(child, name)));
  }
  return said;
}

function keyText(node: string): string {
  const key = JSON.parse(node.slice(2)) as JsonMap;
  return Object.entries(key)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join(",");
}
