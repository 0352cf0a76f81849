import type { IncomingMessage } from "node:http";
import { parse as parseYaml } from "yaml";
import type { ResourceType } from "../../bootstrap/enroller/kubernetes.ts";
import { isMap, type Json, type JsonMap } from "./json.ts";
import { badRequest, LabError } from "./status.ts";
import type { Included } from "./table.ts";

/** 3 MiB, as the API server: etcd could not hold more. */
const MAX_BODY_BYTES = 3 * 1024 * 1024;

/** What a path under a group and version names. */
export interface Target {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  /** Absent: the collection. */
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

/**
 * Reads the path of a resource: `/api/v1/namespaces/NS/pods/NAME/status` and its kin.
 *
 * @returns undefined if the path has another shape.
 */
export function parseTarget(path: string): Target | undefined {
  const parts = path
    .split("/")
    .filter((part) => part !== "")
    .map(decode);
  const core = parts[0] === "api";
  if (!core && parts[0] !== "apis") return undefined;
  const [group, version] = core ? ["", parts[1]] : [parts[1], parts[2]];
  const rest = parts.slice(core ? 2 : 3);
  if (group === undefined || version === undefined || rest.length === 0) return undefined;
  // `namespaces/NS/status` is about the namespace itself, `namespaces/NS/pods` about what is in it.
  const inside = rest[0] === "namespaces" && rest.length >= 3 && rest[2] !== "status" && rest[2] !== "finalize";
  const namespace = inside ? rest[1] : undefined;
  const [plural, name, subresource, ...more] = inside ? rest.slice(2) : rest;
  if (plural === undefined || more.length > 0) return undefined;
  return { type: { group, version, plural }, namespace, name, subresource };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw badRequest("malformed path");
  }
}

/** Which answer the client asks for. */
export interface Accept {
  /** As a table, with so much of each object; undefined for the objects themselves. */
  readonly table: Included | undefined;
  /** Of each object only its metadata, as controllers ask that want names, labels and owners and nothing else. */
  readonly metadataOnly: boolean;
}

/** @throws LabError 406 if nothing that can be served is accepted. */
export function parseAccept(header: string | undefined, query: URLSearchParams): Accept {
  const wishes = (header ?? "*/*").split(",").map((wish) =>
    wish
      .trim()
      .split(";")
      .map((part) => part.trim()),
  );
  for (const [media = "", ...parameters] of wishes) {
    const json = media === "application/json" || media === "*/*" || media === "application/*";
    if (!json) continue;
    const as = parameters.find((parameter) => parameter.startsWith("as="));
    if (as === undefined) return { table: undefined, metadataOnly: false };
    if (as === "as=PartialObjectMetadata" || as === "as=PartialObjectMetadataList") {
      return { table: undefined, metadataOnly: true };
    }
    if (as !== "as=Table") continue;
    const asked = query.get("includeObject");
    return { table: asked === "None" || asked === "Object" ? asked : "Metadata", metadataOnly: false };
  }
  throw new LabError(406, "NotAcceptable", "only the following media types are accepted: application/json");
}

/**
 * Reads a request's body as JSON or YAML.
 *
 * @throws LabError 413 if it is too long, 400 if it does not parse.
 */
export async function readBody(request: IncomingMessage): Promise<Json> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) {
      throw new LabError(413, "RequestEntityTooLarge", `limit is ${MAX_BODY_BYTES}`);
    }
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  try {
    return (mediaType(request).includes("yaml") ? parseYaml(text) : JSON.parse(text)) as Json;
  } catch (error) {
    throw badRequest(`unable to parse the request body: ${error instanceof Error ? error.message : error}`);
  }
}

export function mediaType(request: IncomingMessage): string {
  return (request.headers["content-type"] ?? "application/json").split(";")[0]?.trim() ?? "";
}

/** @throws LabError 400 if a body is not an object. */
export function asMap(body: Json): JsonMap {
  if (!isMap(body)) throw badRequest("the request body is not an object");
  return body;
}
