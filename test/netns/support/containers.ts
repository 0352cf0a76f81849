import type { Host } from "../../../src/lab/netns.ts";
import type { Site } from "./site.ts";

/** The VM's own bridge, named as Docker names those of its networks. */
export const BRIDGE = "br-app";

/** Containers behind the VM, on a bridge there, as Docker and Podman make them. */
export interface Containers {
  readonly one: Host;
  readonly two: Host;
  readonly ip: (which: 1 | 2, family: string) => string;
}

/** Two, each with an application on port 8080, and routes to them and back. */
export async function behindTheVm(site: Site): Promise<Containers> {
  const { network, vm, pod } = site;
  const must = async (host: Host, line: string) => {
    const { code, stderr } = await host.exec("sh", ["-c", line]);
    if (code !== 0) throw new Error(`${line}: ${stderr}`);
  };
  const ip = (which: 1 | 2, family: string) => (family === "4" ? `172.30.0.1${which}` : `fd30::1${which}`);
  await must(vm, `ip link add ${BRIDGE} type bridge && ip link set ${BRIDGE} up`);
  await must(vm, `ip addr add 172.30.0.1/24 dev ${BRIDGE} && ip -6 addr add fd30::1/64 dev ${BRIDGE} nodad`);
  await must(vm, "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
  const made: Host[] = [];
  for (const which of [1, 2] as const) {
    const host = await network.addHost(`container-${which}`, network.address(9, which));
    await must(host, "ip link set eth0 down");
    await must(vm, `ip link add veth-${which} type veth peer name c0 netns ${host.namespace}`);
    await must(vm, `ip link set veth-${which} master ${BRIDGE} up`);
    await must(host, `ip link set c0 up && ip addr add ${ip(which, "4")}/24 dev c0`);
    await must(host, `ip -6 addr add ${ip(which, "6")}/64 dev c0 nodad`);
    await must(host, "ip route replace default via 172.30.0.1 && ip -6 route replace default via fd30::1");
    await site.start(host, "peer.ts", [`container-${which}`, "8080"]);
    made.push(host);
  }
  await must(pod, `ip route add 172.30.0.0/24 via ${vm.ip} && ip -6 route add fd30::/64 via ${vm.ip6}`);
  const [one, two] = made as [Host, Host];
  return { one, two, ip };
}
