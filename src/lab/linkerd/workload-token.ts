import { invalidArgument } from "./failure.ts";

/** Whom a policy call is about. */
export interface WorkloadToken {
  readonly kind: "pod" | "external-workload";
  readonly namespace: string;
  readonly name: string;
}

/**
 * Reads `PortSpec.workload` and `TrafficSpec.source_workload`: JSON if the very first byte is `{`, else the old form
 * `NS:POD`.
 *
 * @throws CallFailure InvalidArgument.
 */
export function parseWorkloadToken(text: string): WorkloadToken {
  const token = text.startsWith("{") ? fromJson(text) : fromPair(text);
  if (token === undefined) throw invalidArgument(`Invalid workload: ${text}`);
  return token;
}

function fromJson(text: string): WorkloadToken | undefined {
  const { ns, pod, external_workload: external } = jsonTexts(text) ?? {};
  if (ns === undefined) return undefined;
  if (external !== undefined) return { kind: "external-workload", namespace: ns, name: external };
  return pod === undefined ? undefined : { kind: "pod", namespace: ns, name: pod };
}

function fromPair(text: string): WorkloadToken | undefined {
  const colon = text.indexOf(":");
  // In JSON empty names are names, of workloads that nobody knows.
  if (colon < 1 || colon === text.length - 1) return undefined;
  return { kind: "pod", namespace: text.slice(0, colon), name: text.slice(colon + 1) };
}

/** What the destination controller learns about its caller. */
export interface ContextToken {
  readonly namespace: string | undefined;
  readonly nodeName: string | undefined;
}

/** Reads `context_token`: JSON, or the old form `ns:NS`. Whatever cannot be read counts as empty, as in Linkerd. */
export function parseContextToken(text: string): ContextToken {
  if (text.startsWith("ns:")) return { namespace: text.slice(3), nodeName: undefined };
  const { ns, nodeName } = jsonTexts(text) ?? {};
  return { namespace: ns, nodeName };
}

function jsonTexts(text: string): Readonly<Record<string, string | undefined>> | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== "object" || parsed === null) return undefined;
    return Object.fromEntries(Object.entries(parsed).filter(([, value]) => typeof value === "string"));
  } catch {
    return undefined;
  }
}
