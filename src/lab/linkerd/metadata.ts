import type { KubeObject } from "../../bootstrap/enroller/kubernetes.ts";
import type { meta } from "../../proto/index.ts";
import type { Init } from "./message.ts";

export type MetadataMessage = Init<typeof meta.MetadataSchema>;

/** Something that no object asked for, by its name: `default`, `http`, `opaq` … */
export function defaultMetadata(name: string): MetadataMessage {
  return { kind: { case: "default", value: name } };
}

/** The object that something was made from. The core group is called `core`. */
export function objectMetadata(object: KubeObject, port = 0): MetadataMessage {
  const { name, namespace = "" } = object.metadata;
  const slash = object.apiVersion.indexOf("/");
  const group = slash < 0 ? "core" : object.apiVersion.slice(0, slash);
  return { kind: { case: "resource", value: { group, kind: object.kind, name, namespace, port } } };
}

/** As {@link objectMetadata} in inbound policies, which do not say where their routes and rate limits are. */
export function inboundMetadata(object: KubeObject): MetadataMessage {
  const group = object.apiVersion.slice(0, object.apiVersion.indexOf("/"));
  return { kind: { case: "resource", value: { group, kind: object.kind, name: object.metadata.name } } };
}

/** As {@link objectMetadata}, for what is only named. */
export function refMetadata(
  ref: { readonly group: string; readonly kind: string; readonly name: string; readonly namespace: string },
  port = 0,
): MetadataMessage {
  return { kind: { case: "resource", value: { ...ref, group: ref.group === "" ? "core" : ref.group, port } } };
}
