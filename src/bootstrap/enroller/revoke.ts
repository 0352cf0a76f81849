import type { MeshNames } from "../control/index.ts";
import { applyWorkload, readWorkload } from "./apply.ts";
import type { KubeClient } from "./kubernetes.ts";
import { addressesOf, planWorkload, readRegistration } from "./plan.ts";

/**
 * Marks a host as revoked. Enrollers that watch it refuse to renew, order it to drop its identity, and withdraw its
 * readiness. Peers check no revocation list, so the certificate itself lives on to its end.
 *
 * @returns when the last certificate ends, RFC 3339; undefined if that is not known.
 * @throws Error if there is no such host of ours; KubeError.
 */
export async function revokeHost(
  client: KubeClient,
  mesh: MeshNames,
  host: { readonly namespace: string; readonly name: string },
  reason: string,
): Promise<string | undefined> {
  const object = await readWorkload(client, host.namespace, host.name);
  const registration = object && readRegistration(object);
  if (object === undefined || registration === undefined) {
    throw new Error(`there is no host ${host.namespace}/${host.name} that an enroller keeps`);
  }
  // By the same field manager as everything else in it, so that a later enrolment can take the mark away again.
  const wanted = planWorkload({ ...registration, revoked: reason }, addressesOf(object), mesh);
  await applyWorkload(client, wanted, object.metadata.resourceVersion);
  return registration.certificateEnds;
}
