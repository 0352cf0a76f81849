import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Authority } from "../../../src/lab/pki.ts";
import { SAMPLE } from "../../../src/lab/sample.ts";
import { until } from "../../support/until.ts";
import type { Conversation } from "../support/site.ts";
import { applyPolicy, deletePolicies, fooNotBar, MESH, meshTls } from "./policy-yaml.ts";
import type { MeshSite } from "./site.ts";

const ID = "spiffe://cluster.local/partner/billing";
const WITHIN_MS = 10_000;

/** A workload that SPIRE would have named: its certificate says a URI and nothing else. */
export function spiffe(site: () => MeshSite): void {
  let client: Conversation | undefined;
  let port: string;

  beforeAll(async () => {
    const { lab, outsider, vm } = site();
    const issuer = await site().kubectl("get", "secret", "linkerd-identity-issuer", "-n", "linkerd", "-o", "json");
    const { data } = JSON.parse(issuer) as { data: Record<string, string> };
    const pem = (name: string) => Buffer.from(data[name] ?? "", "base64").toString();
    const leaf = await (await Authority.load(pem("crt.pem"), pem("key.pem"))).issue({ uri: [ID] });
    const directory = join(lab.directory, "partner");
    mkdirSync(directory);
    writeFileSync(join(directory, "tls.key"), leaf.keyPem);
    writeFileSync(join(directory, "tls.crt"), leaf.certificatePem);
    const serverName = `${SAMPLE.group}.${SAMPLE.namespace}.serviceaccount.identity.linkerd.cluster.local`;
    const args = [vm.host.ip, "4143", directory, serverName, String(SAMPLE.port)];
    client = await site().start(outsider, "keep-alive.ts", args);
  });
  afterAll(async () => {
    client?.child.kill();
    await deletePolicies(site());
  });

  const become = (path: string, status: number) =>
    until(async () => (await client?.ask(path)) === `${status} ${port}`, `${path} ${status}`, WITHIN_MS);

  it("is known by it", async () => {
    const [status = "", at = ""] = (await client?.ask("/foo"))?.split(" ") ?? [];
    expect(status).toBe("200");
    port = at;
  });

  it.each([
    ["nobody", "{identities: ['spiffe://cluster.local/partner/shipping']}", 403],
    ["it, literally", `{identities: ['${ID}']}`, 200],
    ["every name, which is every DNS name", "{identities: ['*']}", 403],
    ["it, among others", `{identities: ['*', '${ID}']}`, 200],
    ["its prefix", "{identities: ['spiffe://cluster.local/partner']}", 403],
  ])("/foo is for %s, /bar for nobody, on one connection", async (_name, who, foo) => {
    await applyPolicy(site(), ...fooNotBar(MESH), meshTls(who));
    await become("/foo", foo);
    await become("/bar", 403);
    await become("/elsewhere", 404);
  });
}
