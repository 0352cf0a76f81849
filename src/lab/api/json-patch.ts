import { draft, equal, isMap, type Json, type JsonMap } from "./json.ts";
import { badRequest, LabError } from "./status.ts";

/**
 * Applies a JSON patch and returns the new document. RFC 6902.
 *
 * @throws LabError 400 for a malformed patch, 422 where it does not fit the document.
 */
export function jsonPatch(document: JsonMap, operations: Json): JsonMap {
  if (!Array.isArray(operations)) throw badRequest("a JSON patch is a list of operations");
  const holder: JsonMap = { root: draft(document) };
  for (const operation of operations) {
    if (!isMap(operation) || typeof operation["path"] !== "string") throw badRequest("an operation has op and path");
    step(holder, operation, operation["path"]);
  }
  const result = holder["root"];
  if (!isMap(result)) throw doesNotFit("the document is replaced by something else");
  return result;
}

function step(holder: JsonMap, operation: JsonMap, path: string): void {
  const value = operation["value"] ?? null;
  const from = typeof operation["from"] === "string" ? operation["from"] : "";
  switch (operation["op"]) {
    case "add":
      add(holder, path, value);
      return;
    case "replace":
      remove(holder, path);
      add(holder, path, value);
      return;
    case "remove":
      remove(holder, path);
      return;
    case "copy":
      add(holder, path, draft(read(holder, from)));
      return;
    case "move":
      add(holder, path, remove(holder, from));
      return;
    case "test":
      if (!equal(read(holder, path), value)) throw doesNotFit(`testing value ${path} failed`);
      return;
    default:
      throw badRequest(`unknown operation ${JSON.stringify(operation["op"])}`);
  }
}

// RFC 6901 §4: ~1 before ~0, or "~01" would come out as "/".
function tokens(pointer: string): string[] {
  if (pointer === "") return ["root"];
  if (!pointer.startsWith("/")) throw badRequest(`not a JSON pointer: ${pointer}`);
  return [
    "root",
    ...pointer
      .slice(1)
      .split("/")
      .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~")),
  ];
}

function parent(holder: JsonMap, pointer: string): { container: JsonMap | Json[]; key: string } {
  const path = tokens(pointer);
  const key = path.pop() ?? "";
  let container: Json | undefined = holder;
  for (const part of path) container = child(container, part);
  if (!isMap(container) && !Array.isArray(container)) throw doesNotFit(`no such place: ${pointer}`);
  if (key === "__proto__") throw doesNotFit("not a field name");
  return { container, key };
}

function child(container: Json | undefined, key: string): Json | undefined {
  if (Array.isArray(container)) return container[Number(key)];
  return isMap(container) && Object.hasOwn(container, key) ? container[key] : undefined;
}

function read(holder: JsonMap, pointer: string): Json {
  const { container, key } = parent(holder, pointer);
  const value = child(container, key);
  if (value === undefined) throw doesNotFit(`no such place: ${pointer}`);
  return value;
}

function add(holder: JsonMap, pointer: string, value: Json): void {
  const { container, key } = parent(holder, pointer);
  if (!Array.isArray(container)) {
    container[key] = value;
    return;
  }
  const index = key === "-" ? container.length : Number(key);
  if (!Number.isInteger(index) || index < 0 || index > container.length) throw doesNotFit(`no such place: ${pointer}`);
  container.splice(index, 0, value);
}

function remove(holder: JsonMap, pointer: string): Json {
  const value = read(holder, pointer);
  const { container, key } = parent(holder, pointer);
  if (Array.isArray(container)) container.splice(Number(key), 1);
  else delete container[key];
  return value;
}

function doesNotFit(why: string): LabError {
  return new LabError(422, "Invalid", `the server rejected our request due to an error in our request: ${why}`);
}
