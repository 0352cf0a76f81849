import { equal, isMap, type Json, type JsonMap } from "./json.ts";
import { itemKey, listKeys } from "./list-keys.ts";

const ORDER = "$setElementOrder/";
const DELETE = "$deleteFromPrimitiveList/";

/**
 * Applies a strategic merge patch to an object of a built-in kind: maps are merged, keyed lists are merged by their
 * key, all other lists are replaced; `$patch: delete|replace`, `$retainKeys`, `$setElementOrder/…` and
 * `$deleteFromPrimitiveList/…` are honoured, since kubectl writes them.
 *
 * @returns A new object; `target` stays as it is.
 */
export function strategicMerge(kind: string, target: JsonMap, patch: JsonMap): JsonMap {
  return mergeMap(kind, "", target, patch);
}

function mergeMap(kind: string, path: string, target: JsonMap, patch: JsonMap): JsonMap {
  if (patch["$patch"] === "replace") return withoutDirectives(patch);
  if (patch["$patch"] === "delete") return {};
  const result: JsonMap = { ...target };
  const retain = patch["$retainKeys"];
  if (Array.isArray(retain)) {
    for (const key of Object.keys(result)) if (!retain.includes(key)) delete result[key];
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith(DELETE)) {
      const field = key.slice(DELETE.length);
      const gone = Array.isArray(value) ? value : [];
      const list = result[field];
      if (Array.isArray(list)) result[field] = list.filter((item) => !gone.some((other) => equal(item, other)));
    } else if (!key.startsWith("$")) {
      mergeField(kind, path === "" ? key : `${path}.${key}`, result, key, value);
    }
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith(ORDER)) reorder(kind, path, result, key.slice(ORDER.length), value);
  }
  return result;
}

function mergeField(kind: string, path: string, result: JsonMap, key: string, value: Json): void {
  const present = result[key];
  if (value === null) delete result[key];
  else if (isMap(value)) result[key] = mergeMap(kind, path, isMap(present) ? present : {}, value);
  else if (Array.isArray(value)) result[key] = mergeList(kind, path, Array.isArray(present) ? present : [], value);
  else result[key] = value;
}

// Strategic merge knows one key per list where server-side apply may know two: ports are merged by their number.
function mergeKey(kind: string, path: string): readonly string[] | undefined {
  return listKeys(kind, path)?.slice(0, 1);
}

function mergeList(kind: string, path: string, target: readonly Json[], patch: readonly Json[]): Json[] {
  if (path === "metadata.finalizers") {
    return [...target, ...patch.filter((item) => !target.some((other) => equal(item, other)))];
  }
  const keys = mergeKey(kind, path);
  if (keys === undefined || patch.some((item) => isMap(item) && item["$patch"] === "replace")) {
    return patch.filter((item) => !(isMap(item) && item["$patch"] === "replace"));
  }
  const result = [...target];
  for (const item of patch) {
    if (!isMap(item)) continue;
    const key = itemKey(item, keys);
    const index = result.findIndex((other) => itemKey(other, keys) === key);
    const present = result[index];
    if (item["$patch"] === "delete") {
      if (index >= 0) result.splice(index, 1);
    } else if (isMap(present)) {
      result[index] = mergeMap(kind, path, present, item);
    } else {
      result.push(mergeMap(kind, path, {}, item));
    }
  }
  return result;
}

function reorder(kind: string, path: string, result: JsonMap, field: string, order: Json): void {
  const list = result[field];
  if (!Array.isArray(list) || !Array.isArray(order)) return;
  const keys = mergeKey(kind, path === "" ? field : `${path}.${field}`);
  const name = (item: Json) => (keys && isMap(item) ? itemKey(item, keys) : JSON.stringify(item));
  const wanted = order.map(name);
  const rank = (item: Json) => {
    const index = wanted.indexOf(name(item));
    return index < 0 ? wanted.length : index;
  };
  result[field] = [...list].sort((a, b) => rank(a) - rank(b));
}

function withoutDirectives(patch: JsonMap): JsonMap {
  return Object.fromEntries(Object.entries(patch).filter(([key]) => !key.startsWith("$")));
}
