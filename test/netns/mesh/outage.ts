import { expect, it } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import { until } from "../../support/until.ts";
import { account, applyPolicy, deletePolicies, fooNotBar } from "./policy-yaml.ts";
import type { MeshSite } from "./site.ts";

/** Refuses everybody: the API, Linkerd's services and DNS are gone, and connections to them break. */
const CUT = `table inet away {
  chain input {
    type filter hook input priority 0;
    iifname "lo" accept
    meta l4proto tcp reject with tcp reset
    udp dport 53 reject
  }
}`;

/** A host whose agent starts again while there is no control plane at all. */
export function outage(site: () => MeshSite): void {
  it("serves as it did before when its agent starts without a control plane, and says how old that is", async () => {
    const { lab, vm } = site();
    const control = lab.host("control-plane");
    const name = `${SAMPLE.group}.${SAMPLE.namespace}.svc.cluster.local`;
    const jsonpath = "jsonpath={.spec.clusterIP}";
    const ip = await site().kubectl("get", "service", SAMPLE.group, "-n", SAMPLE.namespace, "-o", jsonpath);
    // A program that remembers addresses: names are the control plane's to resolve.
    const known = ["--resolve", `${name}:80:${ip}`, "-sS", "-o", "/dev/null", "-m", "5", "-w", "%{http_code}"];
    const ask = async (path: string) =>
      (await lab.exec(SAMPLE.pod, "curl", [...known, `http://${name}/${path}`])).stdout;
    await applyPolicy(site(), ...fooNotBar(account(SAMPLE.pod)));
    await until(async () => (await ask("foo")) === "200" && (await ask("bar")) === "403", "the policy holds");
    expect((await control.exec("nft", ["-f", "-"], { input: CUT })).code).toBe(0);
    try {
      await vm.stop();
      await vm.start();
      expect([await ask("foo"), await ask("bar"), await ask("elsewhere")]).toEqual(["200", "403", "404"]);
      const entries = (await vm.status())?.discovery ?? [];
      const entry = entries.find(({ key }) => key === `inbound ${SAMPLE.port}`);
      expect(entry).toMatchObject({ state: "ready", source: "stored", connected: false });
      expect(entry?.ageMs).toBeGreaterThan(0);
    } finally {
      await control.exec("nft", ["delete", "table", "inet", "away"]);
    }
    await deletePolicies(site());
    await until(async () => (await ask("bar")) === "200", "the control plane is heard again", 30_000);
  });
}
