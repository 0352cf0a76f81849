import { parse } from "yaml";
import type { ConfigMap } from "./resources.ts";

/** What Linkerd's Helm values say about the mesh. */
export interface MeshValues {
  readonly trustDomain: string;
  readonly clusterDomain: string;
  readonly clusterNetworks: readonly string[];
  readonly defaultInboundPolicy: string;
  /** False: `linkerd-config` was missing or unreadable, and these are the charts' defaults. */
  readonly read: boolean;
}

// The charts' defaults (linkerd-control-plane values.yaml).
const NETWORKS = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8";
const POLICY = "all-unauthenticated";
const DOMAIN = "cluster.local";

/**
 * Reads the Helm values in ConfigMap `linkerd-config`: YAML text, in which everything is optional to us.
 *
 * @param overrides - Win over what is written there.
 */
export function readMeshValues(
  config: ConfigMap | undefined,
  overrides: { readonly trustDomain?: string; readonly clusterDomain?: string },
): MeshValues {
  const values = parseMap(config?.data?.["values"]);
  const proxy = isMap(values?.["proxy"]) ? values["proxy"] : {};
  const clusterDomain = overrides.clusterDomain ?? text(values?.["clusterDomain"]) ?? DOMAIN;
  const networks = text(values?.["clusterNetworks"]) ?? NETWORKS;
  return {
    clusterDomain,
    trustDomain: overrides.trustDomain ?? text(values?.["identityTrustDomain"]) ?? clusterDomain,
    clusterNetworks: networks.split(",").map((network) => network.trim()),
    defaultInboundPolicy: text(proxy["defaultInboundPolicy"]) ?? POLICY,
    read: values !== undefined,
  };
}

function parseMap(yaml: string | undefined): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = parse(yaml ?? "");
    return isMap(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
