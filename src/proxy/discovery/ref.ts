import type { meta } from "../../proto/index.ts";
import { defaultRef, type ResourceRef } from "../policy/index.ts";
import { InvalidMessage, required } from "./invalid.ts";

/**
 * Reads which resource a part of an outbound policy comes from.
 * @throws InvalidMessage if it is absent, or a resource lacks group, kind, name or namespace.
 */
export function decodeRef(message: meta.Metadata | undefined, what: string): ResourceRef {
  const ref = decodeLocalRef(message, what);
  if (ref.kind !== "default" && (ref.group === "" || ref.kind === "" || ref.namespace === "")) {
    throw new InvalidMessage(`${what} metadata names no complete resource`);
  }
  return ref;
}

/**
 * As {@link decodeRef} for inbound policies, whose resources live in the workload's namespace and do not repeat it.
 * @throws InvalidMessage if it is absent or a resource has no name.
 */
export function decodeLocalRef(message: meta.Metadata | undefined, what: string): ResourceRef {
  const { kind } = required(message, `${what} metadata`);
  switch (kind.case) {
    case "default":
      return defaultRef(kind.value);
    case "resource": {
      const { group, kind: resourceKind, name, namespace, section, port } = kind.value;
      if (name === "") throw new InvalidMessage(`${what} metadata names no resource`);
      return { group, kind: resourceKind, name, namespace, section, port };
    }
    default:
      throw new InvalidMessage(`${what} metadata is empty`);
  }
}

/** As {@link decodeLocalRef}, but undefined for whatever makes no sense: where the reference serves labels only. */
export function optionalRef(message: meta.Metadata | undefined): ResourceRef | undefined {
  try {
    return decodeLocalRef(message, "");
  } catch {
    return undefined;
  }
}

/** `default.<name>` or `<Kind>.<namespace>.<name>[:port]`: how messages and logs name a resource. */
export function formatRef(ref: ResourceRef): string {
  if (ref.kind === "default" && ref.group === "") return `default.${ref.name}`;
  return `${ref.kind}.${ref.namespace}.${ref.name}${ref.port === 0 ? "" : `:${ref.port}`}`;
}
