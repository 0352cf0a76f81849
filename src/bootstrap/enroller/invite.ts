import { X509Certificate } from "node:crypto";
import { certificatePin, encodeJoinString, grpcTarget, splitPem } from "../control/index.ts";
import { newInvitation } from "./invitation.ts";
import type { KubeClient } from "./kubernetes.ts";
import { readMeshValues } from "./mesh-values.ts";
import { CONFIG_MAPS, type ConfigMap, SECRETS, SERVICE_ACCOUNTS, SERVICES, type Service } from "./resources.ts";
import type { InvitationTerms } from "./terms.ts";

/** The Service in front of the enroller, as `cluster install` makes it. */
export const ENROLLER_SERVICE = "mesh-agent-enroller";
export const ENROLLER_PORT = 4145;

export interface InviteOptions {
  /** Namespace of the control plane. */
  readonly namespace: string;
  readonly terms: InvitationTerms;
  /** Where hosts reach the enroller, `host:port`; absent: what the Service's load balancer says. */
  readonly enrollers?: readonly string[];
  readonly trustDomain?: string;
}

export interface Invited {
  readonly id: string;
  /** The secret is in here: print it once, log it never. */
  readonly joinString: string;
  readonly enrollers: readonly string[];
  /** What the administrator should know, one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Makes an invitation in the cluster and the join string for it.
 * @throws RangeError, one line, for terms that are not valid; Error if the mesh lacks something; KubeError.
 */
export async function createInvitation(client: KubeClient, options: InviteOptions): Promise<Invited> {
  const { namespace, terms } = options;
  const roots = await client.get<ConfigMap>(CONFIG_MAPS, namespace, "linkerd-identity-trust-roots");
  const anchors = splitPem(roots?.data?.["ca-bundle.crt"] ?? "");
  if (anchors.length === 0)
    throw new Error(`there are no trust roots in namespace ${namespace}: is Linkerd installed there?`);
  const values = readMeshValues(await client.get<ConfigMap>(CONFIG_MAPS, namespace, "linkerd-config"), options);
  const enrollers = options.enrollers ?? (await publishedAddresses(client, namespace));
  if (enrollers.length === 0) {
    throw new Error(`Service ${namespace}/${ENROLLER_SERVICE} has no external address: name one with --enroller`);
  }
  for (const address of enrollers) {
    if (grpcTarget(address) === undefined) throw new RangeError(`"${address}" is not host:port`);
  }
  const invitation = newInvitation(terms, namespace);
  // Before the Secret exists: what does not fit must leave nothing behind.
  const joinString = encodeJoinString({
    enrollers,
    pins: anchors.map((pem) => certificatePin(new X509Certificate(pem))),
    controlPlaneNamespace: namespace,
    trustDomain: values.trustDomain,
    invitationId: invitation.id,
    secret: invitation.secret,
  });
  await client.create(SECRETS, namespace, invitation.object);
  return { id: invitation.id, joinString, enrollers, warnings: await warningsFor(client, terms) };
}

async function warningsFor(client: KubeClient, terms: InvitationTerms): Promise<readonly string[]> {
  const warnings: string[] = [];
  try {
    if ((await client.get(SERVICE_ACCOUNTS, terms.namespace, terms.serviceAccount)) === undefined) {
      warnings.push(
        `ServiceAccount ${terms.namespace}/${terms.serviceAccount} does not exist; policies that refer to it will not match until it does`,
      );
    }
  } catch {
    // The inviter need not be allowed to look.
  }
  if (terms.probes.length === 0) warnings.push("no --probe: the hosts count as ready as soon as their agent runs");
  return warnings;
}

interface Balanced extends Service {
  readonly status?: {
    readonly loadBalancer?: { readonly ingress?: readonly { readonly ip?: string; readonly hostname?: string }[] };
  };
}

async function publishedAddresses(client: KubeClient, namespace: string): Promise<readonly string[]> {
  const service = await client.get<Balanced>(SERVICES, namespace, ENROLLER_SERVICE);
  return (service?.status?.loadBalancer?.ingress ?? [])
    .map(({ ip, hostname }) => ip ?? hostname)
    .filter((host) => host !== undefined)
    .map((host) => (host.includes(":") ? `[${host}]:${ENROLLER_PORT}` : `${host}:${ENROLLER_PORT}`))
    .slice(0, 8);
}
