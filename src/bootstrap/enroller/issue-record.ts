import { randomBytes, X509Certificate } from "node:crypto";
import type { Log, WorkloadName } from "../control/index.ts";
import type { KubeClient, KubeObject, ResourceType } from "./kubernetes.ts";

export const EVENTS: ResourceType = { group: "", version: "v1", plural: "events" };

interface IssueRecordOptions {
  readonly client: KubeClient;
  readonly log: Log;
  /** Unix milliseconds. */
  readonly wallMs: number;
  readonly namespace: string;
}

/**
 * Puts an issued certificate on record: a line of the audit log, and an Event on the ServiceAccount whose identity it
 * carries, as Linkerd's own identity service writes one. The Event is a courtesy: nothing waits for it or fails with it.
 */
export function recordIssue(
  { client, log, wallMs, namespace }: IssueRecordOptions,
  workload: WorkloadName,
  leafDer: Uint8Array,
  why: "enrolled" | "renewed",
  address: string,
): void {
  const leaf = new X509Certificate(leafDer);
  const ends = leaf.validToDate.toISOString();
  const host = `${workload.namespace}/${workload.name}`;
  const { serialNumber: serial } = leaf;
  log.info({ audit: "certificate-issued", host, why, address, serial, ends }, "certificate issued");
  const at = new Date(wallMs).toISOString().replace(/\.\d+Z$/, "Z");
  const event: KubeObject & Readonly<Record<string, unknown>> = {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: `${workload.serviceAccount}.${randomBytes(8).toString("hex")}`, namespace: workload.namespace },
    involvedObject: {
      apiVersion: "v1",
      kind: "ServiceAccount",
      namespace: workload.namespace,
      name: workload.serviceAccount,
    },
    reason: "IssuedLeafCertificate",
    message: `host ${host} ${why} from ${address}: certificate ${serial} until ${ends}`,
    type: "Normal",
    source: { component: "mesh-agent-enroller" },
    reportingComponent: "mesh-agent-enroller",
    reportingInstance: namespace,
    firstTimestamp: at,
    lastTimestamp: at,
    count: 1,
  };
  client
    .create(EVENTS, workload.namespace, event)
    .catch((error: unknown) => log.warn({ host, error: String(error) }, "could not write an Event"));
}
