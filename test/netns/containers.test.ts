import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { apply, explain, remove, verify } from "../../src/bootstrap/interception/index.ts";
import type { Host } from "../../src/lab/netns.ts";
import { BRIDGE, behindTheVm, type Containers } from "./support/containers.ts";
import { type Conversation, Site } from "./support/site.ts";

const FAMILIES = ["4", "6"] as const;
let site: Site;
let containers: Containers;
let agent: Conversation;

beforeEach(async () => {
  site = await Site.create();
  containers = await behindTheVm(site);
  agent = await site.agent();
});
afterEach(async () => {
  await site.remove();
});

const podIp = (family: string) => (family === "4" ? site.pod.ip : site.pod.ip6);
const vmIp = (family: string) => (family === "4" ? site.vm.ip : site.vm.ip6);

/** Whether bridged frames go through the firewall before they are routed, as Docker and kubelet want it. */
async function filterBridges(on: boolean): Promise<void> {
  const write = `for f in /proc/sys/net/bridge/bridge-nf-call-ip*; do [ ! -e $f ] || echo ${on ? 1 : 0} > $f; done`;
  await site.run("sh", ["-c", write]);
}

async function intercepted(forwarded: readonly string[], filteredBridges: readonly string[] = []) {
  const plan = site.plan({ outbound: { networks: site.podNetworks(), forwarded } }, { filteredBridges });
  await apply(plan, site.run);
  for (const family of FAMILIES) await agent.ask(`renew ${family}`);
  return plan;
}

/** With a lease of its own: on a busy machine a dial takes seconds. */
async function dial(from: Host, ip: string, port: number): Promise<string> {
  for (const family of FAMILIES) expect(await agent.ask(`renew ${family}`)).toBe("renewed ok");
  return site.dial(from, ip, port);
}

async function endLease(): Promise<void> {
  for (const element of ["ipv4", "ipv6"])
    await site.run("nft", ["delete", "element", "inet", "mesh_agent", "lease", `{ ${element} }`]);
}

describe.each(FAMILIES)("containers behind the host, IPv%s", (family) => {
  it.each([
    ["routed", false],
    ["through a filtered bridge", true],
  ])("are left alone, %s, also on ports that the host declares", async (_, filtered) => {
    await filterBridges(filtered);
    await intercepted([], filtered ? [BRIDGE] : []);
    const { one, ip } = containers;
    expect(await site.dial(one, podIp(family), 7000)).toMatch(/^pod from .*(172\.30\.0\.11|fd30::11)$/);
    expect(await site.dial(site.pod, ip(1, family), 8080)).toMatch(/^container-1 from /);
    expect(await site.dial(one, ip(2, family), 8080)).toMatch(/^container-2 from .*(172\.30\.0\.11|fd30::11)$/);
    expect(await site.dial(site.vm, ip(1, family), 8080)).toMatch(/^container-1 from /);
    expect(await dial(site.pod, vmIp(family), 8080)).toMatch(/^inbound /);
    // A container that calls the host is another host; where the kernel cannot bring it to the agent, it is refused.
    expect(await dial(one, vmIp(family), 8080)).toMatch(filtered ? /^ECONNREFUSED$/ : /^inbound /);
    expect(await dial(site.vm, podIp(family), 7000)).toMatch(/^outbound /);
  });

  it("are captured where that is asked for, and go direct without a lease", async () => {
    await filterBridges(false);
    const plan = await intercepted(["br-*"]);
    const { one, ip } = containers;
    expect(await dial(one, podIp(family), 7000)).toMatch(/^outbound \S+ 7000$/);
    expect(await verify(plan, site.run)).toEqual([]);
    const held = await site.hold(one, podIp(family), 7000);
    expect(await held.hear()).toMatch(/^outbound /);
    // Only what goes to the captured networks.
    expect(await site.dial(one, ip(2, family), 8080)).toMatch(/^container-2 from /);
    expect(await site.dial(site.pod, ip(1, family), 8080)).toMatch(/^container-1 from /);
    expect(await dial(one, vmIp(family), 8080)).toMatch(/^inbound /);
    await endLease();
    expect(await site.dial(one, podIp(family), 7000)).toMatch(/^pod from /);
    expect(await held.ask("still here")).toBe("still here");
    expect(await dial(one, podIp(family), 7000)).toMatch(/^outbound /);
    // The switch comes on while it runs, and the rules are rendered again: nothing breaks, and the plan says so.
    await filterBridges(true);
    const refused = await intercepted(["br-*"], [BRIDGE]);
    expect(explain(refused).join("\n")).toContain("br-* cannot be captured");
    expect(await site.dial(one, podIp(family), 7000)).toMatch(/^pod from /);
    await remove(plan.options.routing, site.run);
    expect(await site.dial(one, podIp(family), 7000)).toMatch(/^pod from /);
  });
});
