import { describe, expect, it } from "vitest";
import { type HostProbes, preflight } from "../../../../src/agent/commands/preflight.ts";
import { loadConfig } from "../../../../src/agent/config.ts";
import type { CommandError } from "../../../../src/agent/exit.ts";

const config = { ...loadConfig("/dev/null") };
const GOOD: HostProbes = {
  isRoot: () => true,
  systemdRuns: () => true,
  version: (program) =>
    Promise.resolve(program === "nft" ? "nftables v1.0.6 (Lester Gooch #5)\n" : "systemd 252 (252.39-1~deb12u2)\n+PAM"),
  kernel: () => "6.1.0-18-cloud-amd64",
  missingKernelFeature: () => Promise.resolve(undefined),
  listening: () =>
    Promise.resolve(
      [
        'LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=7,fd=3))',
        'LISTEN 0 4096 *:4143 *:* users:(("mesh-agent",pid=70,fd=3),("systemd",pid=1,fd=40))',
        'LISTEN 0 4096 127.0.0.1:4140 0.0.0.0:* users:(("systemd",pid=1,fd=41))',
        'LISTEN 0 4096 10.0.0.5:4191 0.0.0.0:* users:(("other",pid=9,fd=3))',
        "",
      ].join("\n"),
    ),
};
const listens = (row: string): Partial<HostProbes> => ({ listening: () => Promise.resolve(`${row}\n`) });
const says = (program: string, text: string | undefined): Partial<HostProbes> => ({
  version: (asked) => (asked === program ? Promise.resolve(text) : GOOD.version(asked)),
});

describe("the preflight of up", () => {
  it("says what it found", async () => {
    expect(await preflight(config, GOOD)).toBe("Linux 6.1.0, systemd 252, nftables 1.0.6");
  });

  it.each<[string, Partial<HostProbes>, number, string]>([
    ["not root", { isRoot: () => false }, 77, "up needs root"],
    ["no systemd", { systemdRuns: () => false }, 64, "systemd does not run this host"],
    ["an old systemd", says("systemctl", "systemd 247 (247.3-7+deb11u4)\n"), 64, "systemd 247 is older than 249"],
    ["an old kernel", { kernel: () => "4.19.0-26-amd64" }, 64, "Linux 4.19.0-26-amd64 is older than 5.10"],
    ["no nft", says("nft", undefined), 73, "nft is not installed"],
    ["an old nft", says("nft", "nftables v0.9.8 (E.D.S.)"), 73, "nftables 0.9.8 is older than 1.0.6"],
    [
      "a kernel without tproxy",
      {
        missingKernelFeature: () => Promise.resolve({ feature: "transparent proxying (tproxy)", module: "nft_tproxy" }),
      },
      73,
      "the kernel lacks transparent proxying (tproxy)",
    ],
    [
      "a taken inbound port",
      listens('LISTEN 0 5 10.0.0.5:4143 0.0.0.0:* users:(("envoy",pid=912,fd=3))'),
      64,
      "port 4143 is taken by envoy (process 912)",
    ],
    ["a taken outbound port", listens("LISTEN 0 5 [::1]:4140 [::]:*"), 64, "port 4140 is taken"],
    [
      "a taken admin port",
      listens('LISTEN 0 5 *:4191 *:* users:(("linkerd2-proxy",pid=12,fd=3))'),
      64,
      "port 4191 is taken by linkerd2-proxy (process 12)",
    ],
  ])("refuses %s with one line and its status", async (_, change, exitCode, message) => {
    const error: CommandError = await preflight(config, { ...GOOD, ...change }).then(
      () => expect.fail("it passed"),
      (thrown) => thrown,
    );
    expect(error).toMatchObject({ name: "CommandError", exitCode, message });
    expect(error.message).not.toContain("\n");
    expect(error.remedy).toMatch(/\S/);
  });

  it.each(["systemd 249 (v249.11-0ubuntu3)", "systemd 257.8 (257.8-1)", "systemd 300~rc1"])(
    "takes %s",
    async (text) => {
      await expect(preflight(config, { ...GOOD, ...says("systemctl", text) })).resolves.toContain("systemd");
    },
  );
});
