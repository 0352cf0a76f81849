import { X509Certificate } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { certificatePin, encodeJoinString, grpcTarget, splitPem } from "../control/index.ts";
import { checkGroup, type ExternalWorkloadGroup, GROUPS, type GroupAdmission, groupFor } from "./group.ts";
import { newInvitation } from "./invitation.ts";
import { type KubeClient, KubeError } from "./kubernetes.ts";
import { readMeshValues } from "./mesh-values.ts";
import { CONFIG_MAPS, type ConfigMap, SECRETS, SERVICE_ACCOUNTS, SERVICES, type Service } from "./resources.ts";
import type { InvitationTerms } from "./terms.ts";

/** The Service in front of the enroller, as `cluster install` makes it. */
export const ENROLLER_SERVICE = "mesh-agent-enroller";
export const ENROLLER_PORT = 4145;
/** On the Service, as annotations: what hosts dial, and that a balancer in front tells who calls. */
export const EXTERNAL_ADDRESS = "mesh-agent/external-address";
export const PROXY_PROTOCOL = "mesh-agent/proxy-protocol";

export interface InviteOptions {
  /** Namespace of the control plane. */
  readonly namespace: string;
  readonly terms: InvitationTerms;
  /** For a group that does not exist yet. */
  readonly admission?: GroupAdmission;
  /** False: nothing was said about the template, so an existing group is taken as it is. True unless told. */
  readonly described?: boolean;
  /** Where hosts reach the enroller, `host:port`; absent: what the Service says. */
  readonly enrollers?: readonly string[];
  readonly trustDomain?: string;
}

export interface Invited {
  readonly id: string;
  /** The secret is in here: print it once, log it never. */
  readonly joinString: string;
  readonly enrollers: readonly string[];
  readonly group: ExternalWorkloadGroup;
  /** Whether the group was made for this invitation. */
  readonly created: boolean;
  /** What the administrator should know, one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Makes an invitation in the cluster and the join string for it; the group too, unless there is one of that name.
 * @throws RangeError, one line, for terms that are not valid or that an existing group contradicts; Error if the mesh
 *   lacks something; KubeError.
 */
export async function createInvitation(client: KubeClient, options: InviteOptions): Promise<Invited> {
  const { namespace, terms } = options;
  const roots = await client.get<ConfigMap>(CONFIG_MAPS, namespace, "linkerd-identity-trust-roots");
  const anchors = splitPem(roots?.data?.["ca-bundle.crt"] ?? "");
  if (anchors.length === 0)
    throw new Error(`there are no trust roots in namespace ${namespace}: is Linkerd installed there?`);
  const values = readMeshValues(await client.get<ConfigMap>(CONFIG_MAPS, namespace, "linkerd-config"), options);
  const service = await client.get<Service>(SERVICES, namespace, ENROLLER_SERVICE);
  const enrollers = options.enrollers ?? publishedAddresses(service);
  if (enrollers.length === 0) {
    throw new RangeError(
      `the Service ${namespace}/${ENROLLER_SERVICE} has no address yet; say where hosts reach the enroller with --enroller`,
    );
  }
  for (const address of enrollers) {
    if (grpcTarget(address) === undefined) throw new RangeError(`"${address}" is not host:port`);
  }
  const wanted = groupFor(terms, options.admission ?? {});
  const problem = checkGroup(wanted);
  if (problem !== undefined) throw new RangeError(problem);
  const existing = await client.get<ExternalWorkloadGroup>(GROUPS, terms.namespace, terms.name);
  if (existing !== undefined) checkAgainst(existing, wanted, options);
  const networks = [...terms.from, ...((existing ?? wanted).spec.admission?.allowedNetworks ?? [])];
  const hidden = networks.length === 0 ? undefined : sourceProblem(service);
  if (hidden !== undefined) throw new RangeError(hidden);
  const { name, from, uses, expiresAtMs } = terms;
  const stored = { format: 2, namespace: terms.namespace, name, from, uses, expiresAtMs } as const;
  const invitation = newInvitation(stored, namespace);
  // Before the Secret exists: what does not fit must leave nothing behind.
  const joinString = encodeJoinString({
    enrollers,
    pins: anchors.map((pem) => certificatePin(new X509Certificate(pem))),
    controlPlaneNamespace: namespace,
    trustDomain: values.trustDomain,
    invitationId: invitation.id,
    secret: invitation.secret,
  });
  const group = existing ?? (await createGroup(client, wanted));
  await client.create(SECRETS, namespace, invitation.object);
  const warnings = await warningsFor(client, group);
  return { id: invitation.id, joinString, enrollers, group, created: existing === undefined, warnings };
}

async function createGroup(client: KubeClient, wanted: ExternalWorkloadGroup): Promise<ExternalWorkloadGroup> {
  const { namespace = "" } = wanted.metadata;
  try {
    return await client.create<ExternalWorkloadGroup>(GROUPS, namespace, wanted);
  } catch (error) {
    // The namespace may be missing too: that message names it.
    if (!(error instanceof KubeError) || error.code !== 404 || error.message.includes("namespaces")) throw error;
    throw new Error("this cluster has no ExternalWorkloadGroups: mesh-agent cluster install | kubectl apply -f -", {
      cause: error,
    });
  }
}

/** @throws RangeError that names what was said otherwise. */
function checkAgainst(existing: ExternalWorkloadGroup, wanted: ExternalWorkloadGroup, options: InviteOptions): void {
  const where = `${existing.metadata.namespace}/${existing.metadata.name}`;
  const problem = checkGroup(existing);
  if (problem !== undefined) throw new RangeError(`the group ${where} is not valid: ${problem}`);
  const differing =
    options.described === false
      ? []
      : (
          Object.keys({ ...wanted.spec.template, ...existing.spec.template }) as (keyof typeof wanted.spec.template)[]
        ).filter((field) => !isDeepStrictEqual(wanted.spec.template[field], existing.spec.template[field]));
  for (const [field, value] of Object.entries(options.admission ?? {})) {
    const key = field as keyof GroupAdmission;
    if (!isDeepStrictEqual(existing.spec.admission?.[key], value)) differing.push(key as never);
  }
  if (differing.length === 0) return;
  throw new RangeError(
    `the group ${where} exists and says otherwise about ${differing.join(", ")}: change it there (kubectl edit externalworkloadgroup), or invite into it by its name alone`,
  );
}

/** Why the enroller does not see where hosts call from; undefined if it does. */
export function sourceProblem(service: Service | undefined): string | undefined {
  // Without a Service the enroller is dialled directly.
  if (service === undefined || service.metadata.annotations?.[PROXY_PROTOCOL] === "true") return undefined;
  const { type = "ClusterIP", externalTrafficPolicy = "Cluster" } = service.spec ?? {};
  if (type !== "ClusterIP" && externalTrafficPolicy === "Local") return undefined;
  const why = type === "ClusterIP" ? "is of type ClusterIP" : `has externalTrafficPolicy: ${externalTrafficPolicy}`;
  return `the enroller cannot see where hosts call from, so networks cannot be checked: its Service ${why}; install with --service-type LoadBalancer or NodePort, or with --proxy-protocol behind a balancer that speaks it`;
}

async function warningsFor(client: KubeClient, group: ExternalWorkloadGroup): Promise<readonly string[]> {
  const warnings: string[] = [];
  const { namespace = "" } = group.metadata;
  const { serviceAccountName, ports = [], probes = [] } = group.spec.template;
  try {
    if ((await client.get(SERVICE_ACCOUNTS, namespace, serviceAccountName)) === undefined) {
      warnings.push(
        `ServiceAccount ${namespace}/${serviceAccountName} does not exist; policies that refer to it will not match until it does`,
      );
    }
  } catch {
    // The inviter need not be allowed to look.
  }
  if (ports.length === 0) warnings.push("no --port: nobody can call these hosts; they only call others");
  else if (probes.length === 0) warnings.push("no --probe: the hosts count as ready as soon as their agent runs");
  return warnings;
}

/** Where hosts dial, as the Service says: what its annotation names, else its load balancer's addresses; at most eight. */
export function publishedAddresses(service: Service | undefined): readonly string[] {
  const said = service?.metadata.annotations?.[EXTERNAL_ADDRESS];
  if (said !== undefined) return said.split(",").map((address) => address.trim());
  return (service?.status?.loadBalancer?.ingress ?? [])
    .map(({ ip, hostname }) => ip ?? hostname)
    .filter((host) => host !== undefined)
    .map((host) => (host.includes(":") ? `[${host}]:${ENROLLER_PORT}` : `${host}:${ENROLLER_PORT}`))
    .slice(0, 8);
}
