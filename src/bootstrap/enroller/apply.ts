import type { KubeClient } from "./kubernetes.ts";
import { planStatus, type Readiness, sameReadiness } from "./plan.ts";
import {
  ENDPOINT_SLICES,
  type EndpointSlice,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  isReady,
  readyCondition,
} from "./resources.ts";

export const FIELD_MANAGER = "mesh-agent-enroller";

export function readWorkload(
  client: KubeClient,
  namespace: string,
  name: string,
): Promise<ExternalWorkload | undefined> {
  return client.get<ExternalWorkload>(EXTERNAL_WORKLOADS, namespace, name);
}

/**
 * Creates or changes everything but the status.
 * @param resourceVersion - Of what the plan was made from: another writer in between makes it a 409.
 */
export function applyWorkload(
  client: KubeClient,
  wanted: ExternalWorkload,
  resourceVersion: string | undefined,
): Promise<ExternalWorkload> {
  const object =
    resourceVersion === undefined ? wanted : { ...wanted, metadata: { ...wanted.metadata, resourceVersion } };
  return client.apply<ExternalWorkload>(EXTERNAL_WORKLOADS, wanted.metadata.namespace, object, FIELD_MANAGER);
}

/** Writes the Ready condition through `/status`, unless it already says so. */
export async function applyReadiness(
  client: KubeClient,
  current: ExternalWorkload,
  wanted: Readiness,
  wallMs: number,
): Promise<ExternalWorkload> {
  if (sameReadiness(readyCondition(current), wanted)) return current;
  const object = planStatus(current, wanted, new Date(wallMs).toISOString());
  return client.apply<ExternalWorkload>(
    EXTERNAL_WORKLOADS,
    current.metadata.namespace,
    object,
    FIELD_MANAGER,
    "status",
  );
}

/** Whether any EndpointSlice still offers the workload as ready. */
export async function offered(client: KubeClient, namespace: string, name: string): Promise<boolean> {
  const slices = await client.list<EndpointSlice>(ENDPOINT_SLICES, namespace);
  return slices.some((slice) =>
    slice.endpoints?.some(
      ({ targetRef, conditions }) =>
        targetRef?.kind === "ExternalWorkload" && targetRef.name === name && conditions?.ready !== false,
    ),
  );
}

/**
 * Deletes a workload that is not Ready. Never one that is: deleting one in use crashes the destination controller of
 * many Linkerd releases.
 * @returns whether it is gone.
 */
export async function deleteUnready(client: KubeClient, namespace: string, name: string): Promise<boolean> {
  const current = await readWorkload(client, namespace, name);
  if (current === undefined) return true;
  if (isReady(current) || (await offered(client, namespace, name))) return false;
  await client.delete(EXTERNAL_WORKLOADS, namespace, name);
  return true;
}
