import {
  changedFields,
  common,
  describeFields,
  type FieldSet,
  fieldsOf,
  isLeaf,
  minus,
  plus,
  removeFields,
} from "./fields.ts";
import { draft, isMap, type Json, type JsonMap, listAt, mapAt } from "./json.ts";
import { itemKey, listKeys } from "./list-keys.ts";
import { LabError } from "./status.ts";

/** Who writes, and how: one entry of `metadata.managedFields` belongs to each distinct writer. */
export interface Writer {
  readonly manager: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  readonly subresource: string;
}

/**
 * Server-side apply: the writer's fields are laid over the object, those it applied before and no longer names go,
 * unless somebody else owns them too. What differs from a field of another owner is a conflict, or with `force`
 * changes hands.
 *
 * @returns The merged object with its managed fields; `live` stays as it is.
 * @throws LabError 409 with one cause per contested field.
 */
export function applyFields(
  kind: string,
  live: JsonMap,
  applied: JsonMap,
  writer: Writer,
  force: boolean,
  now: string,
): JsonMap {
  const wanted = fieldsOf(kind, applied);
  const entries = managedEntries(live);
  const own = entries.find((entry) => isBy(entry, writer));
  const others = entries.filter((entry) => entry !== own);

  const merged = mergeApplied(kind, "", draft(live), draft(applied)) as JsonMap;
  const changes = changedFields(kind, live, merged);
  const causes: JsonMap[] = [];
  const kept = others.map((entry) => {
    const contested = common(changes, common(wanted, mapAt(entry, "fieldsV1")));
    if (isLeaf(contested)) return entry;
    for (const field of describeFields(contested)) {
      const message = `conflict with ${JSON.stringify(entry["manager"])}`;
      causes.push({ reason: "FieldManagerConflict", message, field });
    }
    return { ...entry, fieldsV1: minus(mapAt(entry, "fieldsV1"), contested) };
  });
  if (causes.length > 0 && !force) throw contest(causes);

  let dropped = own ? minus(mapAt(own, "fieldsV1"), wanted) : {};
  for (const entry of kept) dropped = minus(dropped, mapAt(entry, "fieldsV1"));
  removeFields(kind, dropped, merged);
  setManaged(merged, [...kept, managedEntry(writer, wanted, now)]);
  return merged;
}

/** Records an ordinary write: what it changed belongs to the writer, what it removed belongs to nobody. */
export function trackUpdate(kind: string, live: JsonMap, next: JsonMap, writer: Writer, now: string): void {
  const changes = changedFields(kind, live, next);
  const present = fieldsOf(kind, next);
  const entries = managedEntries(live);
  const own = entries.find((entry) => isBy(entry, writer));
  const kept = entries
    .filter((entry) => entry !== own)
    .map((entry) => ({ ...entry, fieldsV1: minus(common(mapAt(entry, "fieldsV1"), present), changes) }));
  const before = own ? mapAt(own, "fieldsV1") : {};
  const mine = plus(common(before, present), changes);
  if (isLeaf(mine)) setManaged(next, kept);
  else
    setManaged(next, [...kept, isLeaf(changes) && own ? { ...own, fieldsV1: mine } : managedEntry(writer, mine, now)]);
}

function mergeApplied(kind: string, path: string, live: Json | undefined, applied: Json): Json {
  if (isMap(applied)) {
    const result: JsonMap = isMap(live) ? live : {};
    for (const [key, value] of Object.entries(applied)) {
      result[key] = mergeApplied(kind, path === "" ? key : `${path}.${key}`, result[key], value);
    }
    return result;
  }
  const keys = Array.isArray(applied) ? listKeys(kind, path) : undefined;
  if (!Array.isArray(applied) || keys === undefined) return applied;
  const result = Array.isArray(live) ? [...live] : [];
  for (const item of applied) {
    const index = result.findIndex((other) => itemKey(other, keys) === itemKey(item, keys));
    if (index < 0) result.push(item);
    else result[index] = mergeApplied(kind, path, result[index], item);
  }
  return result;
}

function managedEntries(object: JsonMap): JsonMap[] {
  return listAt(mapAt(object, "metadata"), "managedFields").filter(isMap);
}

function setManaged(object: JsonMap, entries: readonly JsonMap[]): void {
  const metadata = mapAt(object, "metadata");
  const left = entries.filter((entry) => !isLeaf(mapAt(entry, "fieldsV1")));
  if (left.length > 0) metadata["managedFields"] = left;
  else delete metadata["managedFields"];
}

function isBy(entry: JsonMap, writer: Writer): boolean {
  return (
    entry["manager"] === writer.manager &&
    entry["operation"] === writer.operation &&
    (entry["subresource"] ?? "") === writer.subresource
  );
}

function managedEntry(writer: Writer, fields: FieldSet, now: string): JsonMap {
  return {
    manager: writer.manager,
    operation: writer.operation,
    apiVersion: writer.apiVersion,
    time: now,
    fieldsType: "FieldsV1",
    fieldsV1: fields,
    ...(writer.subresource === "" ? {} : { subresource: writer.subresource }),
  };
}

function contest(causes: readonly JsonMap[]): LabError {
  const first = causes.map((cause) => `${cause["message"]}: ${cause["field"]}`).join("; ");
  const noun = causes.length === 1 ? "1 conflict" : `${causes.length} conflicts`;
  return new LabError(409, "Conflict", `Apply failed with ${noun}: ${first}`, {
    causes: causes.map((cause) => ({ ...cause })),
  });
}
