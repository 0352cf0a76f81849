import type { Endpoint } from "../core/endpoint.ts";
import type { InboundPolicy, OutboundPolicy, Profile } from "../policy/index.ts";

/*
 * Whether a stored value is of the shape that this version writes. The files are ours alone and carry a format number,
 * so this looks only as deep as is needed not to stumble over one that was cut, mixed up or made by hand.
 */

/** The two answers about an original destination; null: the controller says that there is none. */
export interface StoredOutbound {
  readonly policy: OutboundPolicy | null;
  readonly profile: Profile | null;
}

export function isInboundPolicy(value: unknown): value is InboundPolicy {
  return (
    isObject(value) &&
    isObject(value["protocol"]) &&
    hasText(value["protocol"], "kind") &&
    isObject(value["ref"]) &&
    Array.isArray(value["authorizations"]) &&
    hasRoutes(value["protocol"])
  );
}

export function isStoredOutbound(value: unknown): value is StoredOutbound {
  if (!isObject(value)) return false;
  const { policy, profile } = value;
  return (policy === null || isOutboundPolicy(policy)) && (profile === null || isProfile(profile));
}

export function isEndpoints(value: unknown): value is readonly Endpoint[] {
  return Array.isArray(value) && value.every(isEndpoint);
}

function isOutboundPolicy(value: unknown): boolean {
  return (
    isObject(value) &&
    hasText(value, "kind") &&
    isObject(value["ref"]) &&
    Array.isArray(value["tls"]) &&
    isHttp(value["http1"]) &&
    isHttp(value["http2"])
  );
}

function isHttp(value: unknown): boolean {
  return value === undefined || (isObject(value) && Array.isArray(value["routes"]));
}

function hasRoutes(protocol: Record<string, unknown>): boolean {
  return protocol["kind"] === "opaque" || protocol["kind"] === "tls" || Array.isArray(protocol["routes"]);
}

function isProfile(value: unknown): boolean {
  return isObject(value) && Array.isArray(value["routes"]) && Array.isArray(value["targets"]);
}

function isEndpoint(value: unknown): boolean {
  return (
    isObject(value) &&
    hasText(value, "key") &&
    isObject(value["address"]) &&
    hasText(value["address"], "ip") &&
    isObject(value["labels"])
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function hasText(value: Record<string, unknown>, name: string): boolean {
  return typeof value[name] === "string";
}
