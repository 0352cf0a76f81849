/** Where a workload lives in the mesh's namespace of names. */
export interface WorkloadName {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
}

/** The two values that every identity of one mesh has in common. */
export interface MeshNames {
  /** Namespace of the control plane, `linkerd` by default. */
  readonly controlPlaneNamespace: string;
  readonly trustDomain: string;
}

/** The ServiceAccount under which the enroller runs, in the namespace of the control plane. */
export const ENROLLER_SERVICE_ACCOUNT = "mesh-agent-enroller";

/** `SA.NS.serviceaccount.identity.L5D.TD`: first SAN, SNI and what policies match. */
export function identityName(serviceAccount: string, namespace: string, mesh: MeshNames): string {
  return `${serviceAccount}.${namespace}.serviceaccount.identity.${mesh.controlPlaneNamespace}.${mesh.trustDomain}`;
}

/** `spiffe://TD/ns/NS/sa/SA`: the URI SAN, and the identity in the ExternalWorkload. */
export function identityUri(serviceAccount: string, namespace: string, mesh: MeshNames): string {
  return `spiffe://${mesh.trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}

/** The name that the enroller proves. */
export function enrollerName(mesh: MeshNames): string {
  return identityName(ENROLLER_SERVICE_ACCOUNT, mesh.controlPlaneNamespace, mesh);
}

/** The name that the destination pods prove, for the destination and the policy service alike. */
export function destinationName(mesh: MeshNames): string {
  return identityName("linkerd-destination", mesh.controlPlaneNamespace, mesh);
}

/**
 * Takes an identity name apart.
 * @returns undefined if it is not the name of a ServiceAccount of this mesh.
 */
export function parseIdentityName(
  name: string,
  mesh: MeshNames,
): { readonly serviceAccount: string; readonly namespace: string } | undefined {
  const suffix = `.serviceaccount.identity.${mesh.controlPlaneNamespace}.${mesh.trustDomain}`;
  if (!name.endsWith(suffix)) return undefined;
  // A namespace has no dot; the name of a ServiceAccount may have some.
  const match = /^(.+)\.([^.]+)$/.exec(name.slice(0, -suffix.length));
  return match === null ? undefined : { serviceAccount: match[1] as string, namespace: match[2] as string };
}

/** Whether a text can be part of an identity: dots and DNS labels, nothing that could end a name early. */
export function isIdentityPart(text: string): boolean {
  return /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/.test(text) && text.length <= 253 && !text.includes("..");
}
