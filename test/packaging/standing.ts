import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { testCertificate } from "../support/test-ca.ts";

/**
 * Writes what an agent needs that starts without anybody's help: certificate, key, trust anchor, and a `config.yaml` that
 * names them and a control plane that is away.
 *
 * @param folder - Where they are written.
 * @param directory - Where the agent finds key and certificates, if that is another folder.
 */
export async function standing(folder: string, directory = folder): Promise<void> {
  const root = await testCertificate({ name: "root", ca: true });
  const sans = [
    { type: "dns", value: "erp.shop.serviceaccount.identity.linkerd.cluster.local" },
    { type: "url", value: "spiffe://cluster.local/ns/shop/sa/erp" },
  ] as const;
  const leaf = await testCertificate({ sans: [...sans], issuer: root });
  writeFileSync(join(folder, "ca.crt"), root.certificatePem);
  writeFileSync(join(folder, "tls.crt"), leaf.certificatePem);
  writeFileSync(join(folder, "tls.key"), leaf.keyPem, { mode: 0o600 });
  writeFileSync(
    join(folder, "config.yaml"),
    `workload: {namespace: shop, name: erp, addresses: [127.0.0.1]}
identity: {source: files, directory: ${directory}}
controlPlane:
  direct: true
  destination: 127.0.0.1:8086
  policy: 127.0.0.1:8090
  name: linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local
proxy: {workers: 1}
`,
  );
}
