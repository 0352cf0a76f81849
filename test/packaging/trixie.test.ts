import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deb } from "./built.ts";
import { MeshedMachine } from "./meshed-machine.ts";

// Another systemd, nftables, libc and dpkg than the release on which everything else is tried.
describe("the Debian package, on a Debian 13 that systemd runs", () => {
  let machine: MeshedMachine;

  beforeAll(async () => {
    machine = await MeshedMachine.boot("trixie-vm", await deb(), "trixie");
  }, 900_000);
  afterAll(() => machine?.stop(), 60_000);

  test("installs, joins by `mesh-agent up`, and carries calls both ways", async () => {
    const { vm } = machine;
    expect(vm.read("etc/debian_version")).toMatch(/^13/);
    await machine.join();
    await machine.bothWays();
  }, 180_000);

  test("reloads under load without losing a request", async () => {
    const { vm } = machine;
    const load = await machine.load("vm", { fresh: 50, kept: 50 });
    const before = machine.mainPid();
    vm.run("systemctl", "reload", "mesh-agent");
    expect(machine.mainPid()).not.toBe(before);
    await vm.until("registered and Ready", () => machine.isReady());
    const { sent, failures } = await load.end();
    process.stdout.write(`${sent} requests across the reload\n`);
    expect(failures).toEqual({});
    expect(sent).toBeGreaterThan(50);
  }, 120_000);

  test("leaves by `down`, and purge leaves neither files nor user nor rules", () => {
    const { vm } = machine;
    vm.run("mesh-agent", "down");
    vm.run("apt-get", "purge", "-y", "-q", "mesh-agent");
    expect(vm.run("sh", "-c", "find /etc /usr /var/lib /run -xdev -name '*mesh-agent*' ! -path '*/apt/*'")).toBe("");
    expect(vm.exec("getent", "passwd", "mesh-agent").code).not.toBe(0);
    expect(vm.exec("getent", "group", "mesh-agent").code).not.toBe(0);
    expect(vm.run("nft", "list", "ruleset")).not.toContain("mesh_agent");
    expect(vm.run("sh", "-c", "ip rule; ip -6 rule")).not.toMatch(/fwmark/);
  }, 120_000);
});
