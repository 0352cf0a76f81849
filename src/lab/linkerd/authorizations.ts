import type { KubeObject } from "../../bootstrap/enroller/kubernetes.ts";
import type { inbound } from "../../proto/index.ts";
import { type Cidr, parseCidr } from "../../proxy/core/address.ts";
import { type Cluster, type DefaultPolicy, serviceAccountIdentity } from "./cluster.ts";
import type { Init } from "./message.ts";
import { defaultMetadata, type MetadataMessage } from "./metadata.ts";
import { allNetworks, networkMessage } from "./net.ts";
import type {
  AuthorizationPolicy,
  CidrItem,
  MeshTlsAuthentication,
  NetworkAuthentication,
  Server,
  ServerAuthorization,
  TargetRef,
} from "./objects.ts";
import { selects } from "./selector.ts";
import { KINDS } from "./store.ts";
import { byAge } from "./workload.ts";

export type AuthzMessage = Init<typeof inbound.AuthzSchema>;
type AuthnMessage = Init<typeof inbound.AuthnSchema>;
type NetworkMessage = Init<typeof inbound.NetworkSchema>;

const UNAUTHENTICATED: AuthnMessage = { permit: { case: "unauthenticated", value: {} } };

/** The authorization that stands for a default policy; none for `deny`. */
export function defaultAuthorizations(cluster: Cluster, policy: DefaultPolicy): readonly AuthzMessage[] {
  if (policy === "deny") return [];
  const networks = policy.startsWith("cluster-") ? cluster.clusterNetworks : allNetworks();
  return [
    {
      networks: networks.map(networkOf),
      // "Authenticated" is the empty suffix: it matches every DNS identity, and never a URI.
      authentication: policy.endsWith("-authenticated") ? identities([], [[]]) : UNAUTHENTICATED,
      labels: { group: "", kind: "default", name: policy },
      metadata: defaultMetadata(policy),
    },
  ];
}

/** What a policy's `targetRef` is compared with. */
export interface Target {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** The authorizations of every AuthorizationPolicy that targets this, oldest first. */
export function policyAuthorizations(cluster: Cluster, target: Target): readonly AuthzMessage[] {
  const messages: AuthzMessage[] = [];
  for (const policy of inOrder<AuthorizationPolicy>(cluster, KINDS.authorizationPolicies, target.namespace)) {
    const ref = policy.spec?.targetRef;
    if (ref === undefined || !targets(ref, target)) continue;
    const message = policyAuthorization(cluster, policy, target.namespace);
    if (message !== undefined) messages.push(message);
  }
  return messages;
}

/** Those of a Server: of policies that target it or its namespace, and of the older ServerAuthorizations. */
export function serverAuthorizations(cluster: Cluster, server: Server): readonly AuthzMessage[] {
  const { name, namespace = "" } = server.metadata;
  return [
    ...policyAuthorizations(cluster, { group: "policy.linkerd.io", kind: "Server", namespace, name }),
    ...inOrder<ServerAuthorization>(cluster, KINDS.serverAuthorizations, namespace)
      .filter(({ spec }) => {
        if (spec?.server?.name !== undefined) return spec.server.name === name;
        return spec?.server?.selector !== undefined && selects(spec.server.selector, server.metadata.labels);
      })
      .flatMap((authorization) => serverAuthorization(cluster, authorization)),
  ];
}

function inOrder<T extends KubeObject>(
  cluster: Cluster,
  type: (typeof KINDS)[keyof typeof KINDS],
  namespace: string,
): readonly T[] {
  return cluster.store.list<T>(type, namespace).toSorted(byAge);
}

function targets({ group = "", kind, name }: TargetRef, target: Target): boolean {
  if ((group === "" || group === "core") && kind === "Namespace") {
    // A policy for the namespace counts for its Servers, not a second time for their routes; its name is not looked at.
    return target.kind === "Server";
  }
  return group === target.group && kind === target.kind && name === target.name;
}

/**
 * @returns undefined if an authentication that the policy requires does not exist or is of no known kind: nobody is
 *   let in by a rule that cannot be read.
 */
function policyAuthorization(cluster: Cluster, policy: AuthorizationPolicy, home: string): AuthzMessage | undefined {
  let networks: readonly NetworkMessage[] = allNetworks().map(networkOf);
  let authentication = UNAUTHENTICATED;
  for (const ref of policy.spec?.requiredAuthenticationRefs ?? []) {
    const { group = "", kind, name, namespace = home } = ref;
    if (group === "policy.linkerd.io" && kind === "NetworkAuthentication") {
      const found = cluster.store.get<NetworkAuthentication>(KINDS.networkAuthentications, namespace, name);
      if (found === undefined) return undefined;
      networks = (found.spec?.networks ?? []).flatMap(networkItem);
      if (networks.length === 0) return undefined;
    } else if (group === "policy.linkerd.io" && kind === "MeshTLSAuthentication") {
      const found = cluster.store.get<MeshTlsAuthentication>(KINDS.meshTlsAuthentications, namespace, name);
      const permit = found && meshTls(cluster, found, namespace);
      if (permit === undefined) return undefined;
      authentication = permit;
    } else if ((group === "" || group === "core") && kind === "ServiceAccount") {
      authentication = identities([serviceAccountIdentity(cluster, namespace, name)], []);
    } else {
      return undefined;
    }
  }
  return {
    networks: [...networks],
    authentication,
    ...nameOf("authorizationpolicy", policy),
  };
}

function meshTls(cluster: Cluster, { spec }: MeshTlsAuthentication, home: string): AuthnMessage | undefined {
  const exact: string[] = [];
  const suffixes: string[][] = [];
  for (const identity of spec?.identities ?? []) {
    if (identity === "*") suffixes.push([]);
    else if (identity.startsWith("*.")) suffixes.push(identity.slice(2).split("."));
    else exact.push(identity);
  }
  for (const { kind, name, namespace = home } of spec?.identityRefs ?? []) {
    if (kind === "ServiceAccount") exact.push(serviceAccountIdentity(cluster, namespace, name));
    else if (kind === "Namespace") {
      const parts = `${name}.serviceaccount.identity.${cluster.controlPlaneNamespace}.${cluster.trustDomain}`;
      suffixes.push(parts.split("."));
    }
  }
  return exact.length + suffixes.length === 0 ? undefined : identities(exact, suffixes);
}

function serverAuthorization(cluster: Cluster, object: ServerAuthorization): readonly AuthzMessage[] {
  const { networks, unauthenticated, meshTLS } = object.spec?.client ?? {};
  const home = object.metadata.namespace ?? "";
  let authentication: AuthnMessage;
  if (unauthenticated === true) authentication = UNAUTHENTICATED;
  else if (meshTLS?.unauthenticatedTLS === true) {
    authentication = { permit: { case: "meshTLS", value: { clients: { case: "unauthenticated", value: {} } } } };
  } else {
    const names = (meshTLS?.serviceAccounts ?? []).map(({ name, namespace = home }) =>
      serviceAccountIdentity(cluster, namespace, name),
    );
    const exact = (meshTLS?.identities ?? []).filter((identity) => !identity.startsWith("*"));
    const suffixes = (meshTLS?.identities ?? [])
      .filter((identity) => identity === "*" || identity.startsWith("*."))
      .map((identity) => identity.split(".").slice(1));
    if (names.length + exact.length + suffixes.length === 0) return [];
    authentication = identities([...names, ...exact], suffixes);
  }
  return [
    {
      // Here, unlike in an AuthorizationPolicy, no networks mean those of the cluster.
      networks: networks === undefined ? cluster.clusterNetworks.map(networkOf) : networks.flatMap(networkItem),
      authentication,
      ...nameOf("serverauthorization", object),
    },
  ];
}

/** Kinds of authorizations are written small, in both places where they are named. */
function nameOf(kind: string, { metadata: { name } }: KubeObject) {
  const value = { group: "policy.linkerd.io", kind, name };
  const metadata: MetadataMessage = { kind: { case: "resource", value } };
  return { labels: value, metadata };
}

function identities(names: readonly string[], suffixes: readonly (readonly string[])[]): AuthnMessage {
  const value = {
    identities: names.map((name) => ({ name })),
    suffixes: suffixes.map((parts) => ({ parts: [...parts] })),
  };
  return { permit: { case: "meshTLS", value: { clients: { case: "identities", value } } } };
}

function networkOf(net: Cidr): NetworkMessage {
  return { net: networkMessage(net) };
}

function networkItem({ cidr, except = [] }: CidrItem): readonly NetworkMessage[] {
  const net = parseCidr(cidr);
  if (net === undefined) return [];
  const holes = except.map(parseCidr).filter((hole) => hole !== undefined);
  return [{ net: networkMessage(net), except: holes.map(networkMessage) }];
}
