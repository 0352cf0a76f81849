/** Plain JSON, as request bodies and stored objects are made of. */
export type Json = null | boolean | number | string | Json[] | JsonMap;

export interface JsonMap {
  [key: string]: Json;
}

export function isMap(value: unknown): value is JsonMap {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The map under a key, or an empty one that is not attached to anything. */
export function mapAt(object: JsonMap, key: string): JsonMap {
  const value = object[key];
  return isMap(value) ? value : {};
}

/** The map under a key, made and attached if there is none. */
export function ensureMap(object: JsonMap, key: string): JsonMap {
  const value = object[key];
  if (isMap(value)) return value;
  const made: JsonMap = {};
  object[key] = made;
  return made;
}

export function listAt(object: JsonMap, key: string): readonly Json[] {
  const value = object[key];
  return Array.isArray(value) ? value : [];
}

export function textAt(object: JsonMap, key: string): string | undefined {
  const value = object[key];
  return typeof value === "string" ? value : undefined;
}

/** The value at a dotted path such as `metadata.name`; undefined where the path leaves the object. */
export function valueAt(object: JsonMap, path: string): Json | undefined {
  let value: Json | undefined = object;
  for (const key of path.split(".")) {
    if (!isMap(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

/** Deep equality; the order of keys does not matter, the order of items does. */
export function equal(a: Json | undefined, b: Json | undefined): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => equal(item, b[index]));
  }
  if (!isMap(a) || !isMap(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
}

/** A deep copy that may be changed, without the keys whose value is null: an API server stores none. */
export function draft<T extends Json>(value: T): T {
  if (Array.isArray(value)) return value.map((item) => draft(item)) as Json[] as T;
  if (!isMap(value)) return value;
  const copy: JsonMap = {};
  for (const [key, item] of Object.entries(value)) {
    // "__proto__" as a key would change the copy's prototype instead of becoming a field.
    if (item !== null && item !== undefined && key !== "__proto__") copy[key] = draft(item);
  }
  return copy as T;
}

/** Freezes all the way down, so that what a reader was handed stays what it was. */
export function freeze<T extends Json>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const item of Object.values(value)) freeze(item);
  return Object.freeze(value);
}
