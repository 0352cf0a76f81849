import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { type Host, Network } from "../../src/lab/netns.ts";

const GREETER = `require("node:net").createServer((s) => s.end(s.remoteAddress)).listen(7000, "::", () => console.log("up"))`;
const ask = (ip: string) =>
  `require("node:net").connect(7000, "${ip}").on("data", (d) => process.stdout.write(d)).on("error", (e) => process.stdout.write(e.code))`;

const networks: Network[] = [];
afterEach(async () => {
  for (const network of networks.splice(0)) await network.remove();
});

async function create(): Promise<Network> {
  const network = await Network.create();
  networks.push(network);
  return network;
}

async function greet(host: Host): Promise<void> {
  const child = host.spawn(process.execPath, ["-e", GREETER]);
  if (child.stdout !== null) await once(child.stdout, "data");
}

const namespaces = () => {
  try {
    return readdirSync("/run/netns");
  } catch {
    return [];
  }
};

describe("Network", () => {
  it("carries IPv4 and IPv6 between hosts, and IPv4 from the root namespace", async () => {
    const network = await create();
    const client = await network.addHost("client", network.address(0, 10));
    const server = await network.addHost("server", network.address(1, 2));
    await greet(server);
    const { stdout: v4 } = await client.exec(process.execPath, ["-e", ask(server.ip)]);
    const { stdout: v6 } = await client.exec(process.execPath, ["-e", ask(server.ip6)]);
    expect(v4).toBe(`::ffff:${client.ip}`);
    expect(v6).toMatch(/^fd6d:6100::/);
    const root = connect(7000, server.ip);
    const [seen] = await once(root, "data");
    expect(String(seen)).toMatch(/^::ffff:198\.18\./);
    expect((await client.exec(process.execPath, ["-e", ask("203.0.113.1")])).stdout).toBe("ENETUNREACH");
  });

  it("pulls a host's cable and plugs it in again, its routes unharmed", async () => {
    const network = await create();
    const client = await network.addHost("client", network.address(0, 10));
    const server = await network.addHost("server", network.address(1, 2));
    await greet(server);
    const routes = async () => (await server.exec("ip", ["-o", "route", "show", "proto", "boot"])).stdout.trim();
    const before = await routes();
    await network.unplug("server");
    expect((await server.exec("cat", ["/sys/class/net/eth0/carrier"])).stdout.trim()).toBe("0");
    expect((await client.exec(process.execPath, ["-e", ask(server.ip)], { timeoutMs: 1000 })).stdout).toBe("");
    await network.plug("server");
    expect((await client.exec(process.execPath, ["-e", ask(server.ip)])).stdout).toBe(`::ffff:${client.ip}`);
    expect(await routes()).toBe(before);
    await expect(network.unplug("nobody")).rejects.toThrow("no host nobody");
  });

  it("runs programs as another user, with files of its own in /etc", async () => {
    const network = await create();
    const host = await network.addHost("vm", network.address(0, 10));
    host.writeEtc("machine-id", "one\n");
    const { stdout } = await host.exec("sh", ["-c", "id -u; cat /etc/machine-id; grep CapBnd /proc/self/status"], {
      uid: 65_534,
    });
    expect(stdout).toBe("65534\none\nCapBnd:\t0000000000000000\n");
    expect(await host.exec("sh", ["-c", "cat; exit 3"], { input: "in" })).toEqual({
      code: 3,
      stdout: "in",
      stderr: "",
    });
  });

  it("leaves nothing behind, running programs included", async () => {
    const network = await create();
    const host = await network.addHost("vm", network.address(0, 10));
    host.writeEtc("resolv.conf", "nameserver 127.0.0.1\n");
    const child = host.spawn("sleep", ["600"]);
    const ended = once(child, "exit");
    await network.remove();
    expect((await ended)[1]).toBe("SIGKILL");
    expect(namespaces().filter((name) => name.startsWith(`ma-${network.id}-`))).toEqual([]);
  });

  it.each(["SIGTERM", "SIGKILL"] as const)("is tidied up after its maker dies of %s", async (signal) => {
    const source = new URL("../../src/lab/netns.ts", import.meta.url).href;
    const script = `import { Network } from ${JSON.stringify(source)};
      const network = await Network.create();
      await network.addHost("vm", network.address(0, 10));
      console.log(network.id);
      setInterval(() => {}, 1000);`;
    const maker = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(maker.stdout, "data");
    const id = String(line).trim();
    expect(namespaces()).toContain(`ma-${id}-vm`);
    maker.kill(signal);
    await once(maker, "exit");
    if (signal === "SIGKILL") await Network.sweep();
    expect(namespaces().filter((name) => name.startsWith(`ma-${id}-`))).toEqual([]);
  });

  it("refuses what would collide", async () => {
    const network = await create();
    await network.addHost("vm", network.address(0, 10));
    await expect(network.addHost("vm", network.address(0, 11))).rejects.toThrow("exists");
    await expect(network.addHost("other", network.address(0, 10))).rejects.toThrow("belongs to vm");
    await expect(network.addHost("bridge", network.address(0, 11))).rejects.toThrow("not a host name");
    await expect(network.addHost("far", "192.168.0.1")).rejects.toThrow("not in");
    await expect(Network.create({ prefix: network.prefix })).rejects.toThrow("in use");
    await expect(Network.create({ id: network.id })).rejects.toThrow("exists");
  });
});
