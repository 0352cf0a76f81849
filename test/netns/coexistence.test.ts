import { readFileSync } from "node:fs";
import { afterEach, beforeEach, expect, it } from "vitest";
import { apply, leave, remove, verify } from "../../src/bootstrap/interception/index.ts";
import type { Host } from "../../src/lab/netns.ts";
import { behindTheVm, type Containers } from "./support/containers.ts";
import { type Conversation, Site } from "./support/site.ts";

// X06: rule sets as their programs make them. Order of hooks: ours at mangle (-150) before any nat (-100), so that a
// captured connection is ours before it is translated, and what we do not capture is translated as before.
const SERVICE = "10.222.0.10";
const FAMILIES = ["4", "6"] as const;
let site: Site;
let agent: Conversation;
let containers: Containers;

beforeEach(async () => {
  site = await Site.create();
  containers = await behindTheVm(site);
  await site.run("sh", ["-c", "for f in /proc/sys/net/bridge/bridge-nf-call-ip*; do [ ! -e $f ] || echo 0 > $f; done"]);
  agent = await site.agent();
});
afterEach(async () => {
  await site.remove();
});

/** Their rules without ours, and without what packets count there. */
async function foreign(): Promise<string> {
  const { stdout } = await site.run("nft", ["list", "ruleset"]);
  return stdout
    .replace(/table inet mesh_agent \{\n[\s\S]*?\n\}\n/, "")
    .replace(/counter packets \d+ bytes \d+/g, "counter");
}

it.each(["docker", "firewalld", "ufw", "kube-proxy"])(
  "lives beside the rules of %s, whoever comes first",
  async (name) => {
    const rules = readFileSync(new URL(`foreign/${name}.nft`, import.meta.url), "utf8")
      .replaceAll("@CONTAINER@", containers.ip(1, "4"))
      .replaceAll("@POD@", site.pod.ip);
    const load = async () => expect((await site.run("nft", ["-f", "-"], rules)).stderr).toBe("");
    const plan = site.plan({
      outbound: { networks: [...site.podNetworks(), "10.222.0.0/16"] },
      inbound: { ports: [8080, 8089] },
    });
    const ip = (host: "vm" | "pod", family: string) => (family === "4" ? site[host].ip : site[host].ip6);
    // Each with a lease of its own: on a busy machine a dial takes seconds.
    const dial = async (from: Host, to: string, port: number) => {
      for (const family of FAMILIES) expect(await agent.ask(`renew ${family}`)).toBe("renewed ok");
      return site.dial(from, to, port);
    };
    const captured = async () => {
      for (const family of FAMILIES) {
        expect(await agent.ask(`probe ${family}`)).toMatch(/^outbound /);
        expect(await dial(site.vm, ip("pod", family), 7000)).toMatch(/^outbound /);
        expect(await dial(site.pod, ip("vm", family), 8080)).toMatch(/^inbound /);
        expect(await dial(site.pod, ip("vm", family), 22)).toMatch(/^app from /);
        expect(await agent.ask(`dial ${ip("pod", family)} 7000`)).toMatch(/^pod from /);
      }
      expect(await dial(containers.one, site.pod.ip, 7000)).toMatch(/^pod from /);
      if (name === "docker") expect(await dial(site.pod, site.vm.ip, 8088)).toMatch(/^container-1 from /);
      if (name === "kube-proxy") expect(await dial(site.vm, SERVICE, 80)).toMatch(/^outbound /);
    };
    // A Service's address needs a route, as on any node.
    await site.run("ip", ["route", "add", "10.222.0.0/16", "via", site.pod.ip]);
    await load();
    const before = await foreign();
    await apply(plan, site.run);
    await captured();
    expect(await foreign()).toBe(before);
    expect(await verify(plan, site.run)).toEqual([]);

    // Theirs are loaded anew, as by a reload or a restart of the daemon: ours are not touched by it.
    for (const table of before.matchAll(/^table (\S+ \S+) /gm))
      await site.run("nft", ["delete", "table", ...String(table[1]).split(" ")]);
    await load();
    expect(await verify(plan, site.run)).toEqual([]);
    await captured();

    await leave(plan, site.run);
    if (name === "kube-proxy") expect(await site.dial(site.vm, SERVICE, 80)).toMatch(/^pod from /);
    await remove(plan.options.routing, site.run);
    expect(await foreign()).toBe(before);
    expect(await site.dial(site.vm, site.pod.ip, 7000)).toMatch(/^pod from /);
    expect(await site.dial(site.pod, site.vm.ip, 8080)).toMatch(/^app from /);
    if (name === "docker") expect(await site.dial(site.pod, site.vm.ip, 8088)).toMatch(/^container-1 from /);
  },
);
