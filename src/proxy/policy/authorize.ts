import { cidrContains, type Ip } from "../core/address.ts";
import type { Authentication, Authorization, Network } from "./model.ts";

/** Who asks: settled once per connection. */
export interface Client {
  /** Parsed once, at accept. */
  readonly ip: Ip;
  /** `none`: no TLS that we terminated (TLS passed through counts as none). `anonymous`: mesh TLS without identity. */
  readonly tls: "none" | "anonymous" | "identity";
  /** The client's first SAN: DNS names in lower case, or a URI. Undefined unless `tls` is `identity`. */
  readonly id: string | undefined;
  /** Further names that its certificate proves: whoever lists one of them literally means this client. */
  readonly otherNames?: readonly string[];
}

/**
 * The first authorization that lets the client through; undefined: denied. The order matters for labels only.
 * @see inbound.md §4.3; linkerd2-proxy linkerd/app/inbound/src/policy.rs
 */
export function authorize(authorizations: readonly Authorization[], client: Client): Authorization | undefined {
  for (const authorization of authorizations) {
    if (inNetworks(authorization.networks, client.ip) && satisfies(authorization.authentication, client)) {
      return authorization;
    }
  }
  return undefined;
}

function inNetworks(networks: readonly Network[], ip: Ip): boolean {
  for (const { net, except } of networks) {
    if (!cidrContains(net, ip)) continue;
    let excepted = false;
    for (const hole of except) excepted ||= cidrContains(hole, ip);
    // An exception belongs to its own network: another entry may still hold the address.
    if (!excepted) return true;
  }
  return false;
}

function satisfies(authentication: Authentication, client: Client): boolean {
  switch (authentication.kind) {
    case "none":
      return true;
    case "mesh-tls":
      return client.tls !== "none";
    case "identities":
      if (client.tls !== "identity" || client.id === undefined) return false;
      return (
        authentication.identities.includes(client.id) ||
        matchesSuffix(authentication.suffixes, client.id) ||
        listsOneOf(authentication.identities, client.otherNames)
      );
    default:
      return authentication satisfies never;
  }
}

// Linkerd's proxy knows a client by its first name only. A host of ours has two, the account's DNS name and a SPIFFE ID,
// and one may be listed as well as the other.
function listsOneOf(identities: readonly string[], names: readonly string[] | undefined): boolean {
  if (names === undefined) return false;
  for (const name of names) if (identities.includes(name)) return true;
  return false;
}

function matchesSuffix(suffixes: readonly string[], id: string): boolean {
  // Suffixes, also the empty one that stands for `*`, are about DNS names: a SPIFFE ID must be listed literally.
  if (suffixes.length === 0 || id.includes(":")) return false;
  for (const suffix of suffixes) if (id.length > suffix.length && id.endsWith(suffix)) return true;
  return false;
}
