import { X509Certificate } from "node:crypto";
import { expect, it } from "vitest";
import { validity } from "../../../../src/bootstrap/control/index.ts";
import { authenticate } from "../../../../src/bootstrap/enroller/attach.ts";
import type { KubeClient } from "../../../../src/bootstrap/enroller/kubernetes.ts";
import type { Mesh } from "../../../../src/bootstrap/enroller/mesh.ts";
import { testCertificate } from "../../../support/test-ca.ts";

it("a connection speaks for nobody once the certificate that opened it has run out", async () => {
  const { certificatePem } = await testCertificate();
  const certificate = new X509Certificate(certificatePem);
  const identity = "a.b.serviceaccount.identity.linkerd.cluster.local";
  const mesh = { names: { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" } } as unknown as Mesh;
  let reads = 0;
  const client = {
    get() {
      reads++;
      return Promise.resolve(undefined);
    },
  } as unknown as KubeClient;
  const peer = { identity, certificate, address: "10.0.0.1" };
  const { notAfterMs } = validity(certificate);
  await expect(authenticate(client, mesh, peer, "b", "vm", notAfterMs)).rejects.toThrow("run out");
  expect(reads).toBe(0);
  await expect(authenticate(client, mesh, peer, "b", "vm", notAfterMs - 1)).rejects.toMatchObject({
    code: "unknown-workload",
  });
  expect(reads).toBe(1);
});
