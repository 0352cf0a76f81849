import { X509Certificate } from "node:crypto";
import { certificatePin, encodeJoinString } from "../../src/bootstrap/control/index.ts";
import {
  CONFIG_MAPS,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  type InvitationTerms,
  type KubeClient,
  newInvitation,
  SECRETS,
} from "../../src/bootstrap/enroller/index.ts";
import type { TestPair } from "./test-ca.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");

/** Puts into the API what an installed Linkerd has there. */
export async function installMesh(
  kube: KubeClient,
  ca: { readonly root: TestPair; readonly issuer: TestPair },
): Promise<void> {
  await kube.create(SECRETS, "linkerd", {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "linkerd-identity-issuer" },
    data: { "crt.pem": base64(ca.issuer.certificatePem), "key.pem": base64(ca.issuer.keyPem) },
  } as never);
  await kube.create(CONFIG_MAPS, "linkerd", {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "linkerd-identity-trust-roots" },
    data: { "ca-bundle.crt": ca.root.certificatePem },
  } as never);
  await kube.create(CONFIG_MAPS, "linkerd", {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "linkerd-config" },
    data: {
      values:
        "identityTrustDomain: cluster.local\nclusterDomain: cluster.local\nproxy:\n  defaultInboundPolicy: all-authenticated\n",
    },
  } as never);
}

export function testTerms(overrides: Partial<InvitationTerms> = {}): InvitationTerms {
  return {
    format: 1,
    namespace: "shop",
    name: "legacy-app",
    serviceAccount: "legacy",
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    opaquePorts: [3306],
    probes: [],
    labels: { app: "legacy-app" },
    from: [],
    uses: 1,
    expiresAtMs: Date.now() + 3_600_000,
    ...overrides,
  };
}

/** Invites, and gives the join string. */
export async function invite(
  kube: KubeClient,
  terms: InvitationTerms,
  rootPem: string,
  enroller: string,
): Promise<string> {
  const invitation = newInvitation(terms, "linkerd");
  await kube.create(SECRETS, "linkerd", invitation.object);
  return encodeJoinString({
    enrollers: [enroller],
    pins: [certificatePin(new X509Certificate(rootPem))],
    controlPlaneNamespace: "linkerd",
    trustDomain: "cluster.local",
    invitationId: invitation.id,
    secret: invitation.secret,
  });
}

export function workloadOf(kube: KubeClient, name: string): Promise<ExternalWorkload | undefined> {
  return kube.get<ExternalWorkload>(EXTERNAL_WORKLOADS, "shop", name);
}
