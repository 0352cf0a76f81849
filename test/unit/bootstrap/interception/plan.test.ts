import { describe, expect, it } from "vitest";
import {
  affected,
  explain,
  type HostFacts,
  type InterceptionFile,
  type LiveConnection,
  parseOptions,
  plan,
} from "../../../../src/bootstrap/interception/index.ts";

const both: HostFacts = { families: [4, 6], cgroups: new Map(), ssh: { ports: [], cgroups: [] }, filteredBridges: [] };

function make(change: Partial<InterceptionFile> = {}, facts = both) {
  const file = {
    format: 1,
    outbound: { networks: ["10.43.0.0/16"] },
    inbound: { ports: [8080] },
    agent: { uid: 990 },
    ...change,
  };
  return plan(parseOptions(file), facts);
}

const rules = (ruleset: string, chain: string) =>
  ruleset.split("\n").filter((line) => line.startsWith(`add rule inet mesh_agent ${chain} `));

describe("the ruleset", () => {
  it("touches one table of its own and nothing else", () => {
    const lines = make().ruleset.trimEnd().split("\n");
    for (const line of lines) expect(line).toMatch(/^(add|flush) (table|set|chain|rule|element) inet mesh_agent( |$)/);
  });

  it("captures from a SYN on, never by connection state", () => {
    const { ruleset } = make();
    expect(ruleset).not.toContain("ct state");
    for (const line of ruleset.split("\n")) {
      if (/jump (outbound|inbound)_new/.test(line))
        expect(line).toContain("tcp flags & (syn | ack | rst | fin) == syn");
    }
  });

  it("renews, probes and exempts before it captures", () => {
    const output = rules(make().ruleset, "output");
    const order = [
      "update @lease",
      "tcp dport 4189",
      "comment \"the agent's own",
      "ct direction original",
      "jump outbound_new",
    ];
    const at = order.map((text) => output.findIndex((line) => line.includes(text)));
    expect(at).toEqual([...at].sort((a, b) => a - b));
    expect(at).not.toContain(-1);
  });

  it("refuses without a lease only where it is told to", () => {
    const refuses = (text: string, chain: string) =>
      rules(text, chain).some((line) => line.endsWith("reject with tcp reset"));
    const usual = make().ruleset;
    expect([refuses(usual, "outbound_captured"), refuses(usual, "inbound_new")]).toEqual([false, true]);
    const opposite = make({
      outbound: { networks: ["10.43.0.0/16"], onDeath: "closed" },
      inbound: { ports: [8080], onDeath: "open" },
    }).ruleset;
    expect([refuses(opposite, "outbound_captured"), refuses(opposite, "inbound_new")]).toEqual([true, false]);
  });

  it("captures and refuses nothing new while leaving", () => {
    const { leaving } = make();
    for (const chain of ["outbound_new", "outbound_captured", "inbound_new"]) expect(rules(leaving, chain)).toEqual([]);
    expect(rules(leaving, "output").length).toBe(rules(make().ruleset, "output").length);
  });

  it("leaves a family alone that is switched off", () => {
    const { ruleset, routing } = make(
      {},
      { families: [4], cgroups: new Map(), ssh: { ports: [], cgroups: [] }, filteredBridges: [] },
    );
    expect(ruleset).not.toMatch(/ip6 daddr|\[::1\]/);
    expect(routing.every((object) => object.family === 4)).toBe(true);
  });

  it("selects and exempts units by the cgroups that exist", () => {
    const facts: HostFacts = {
      families: [4],
      cgroups: new Map([
        ["mesh-agent.service", "system.slice/mesh-agent.service"],
        ["app.service", "system.slice/apps.slice/app.service"],
      ]),
      ssh: { ports: [], cgroups: [] },
      filteredBridges: [],
    };
    const made = make(
      {
        agent: { uid: 990, unit: "mesh-agent.service" },
        outbound: { networks: ["10.43.0.0/16"], selection: { units: ["app.service", "absent.service"] } },
      },
      facts,
    );
    expect(rules(made.ruleset, "output").join("\n")).toContain(
      'socket cgroupv2 level 2 "system.slice/mesh-agent.service" accept',
    );
    expect(rules(made.ruleset, "outbound_new").filter((line) => line.includes("cgroupv2"))).toEqual([
      'add rule inet mesh_agent outbound_new ip daddr @capture4 socket cgroupv2 level 3 "system.slice/apps.slice/app.service" jump outbound_captured',
    ]);
    expect(explain(made).join("\n")).toContain("absent.service is not running");
  });

  it("exempts an SSH daemon wherever it listens, also on a declared port, and what it asks itself", () => {
    const facts = { ...both, ssh: { ports: [22, 2222, 8080], cgroups: ["system.slice/ssh.service"] } };
    const made = make({ inbound: { ports: [8080], sshPorts: [22, 2200] } }, facts);
    const prerouting = rules(made.ruleset, "prerouting");
    const exempt = prerouting.findIndex((line) => line.includes("tcp dport { 22, 2200, 2222, 8080 } accept"));
    expect(exempt).toBeGreaterThan(-1);
    expect(exempt).toBeLessThan(prerouting.findIndex((line) => line.includes("jump inbound_new")));
    expect(rules(made.ruleset, "output").join("\n")).toContain('level 2 "system.slice/ssh.service" accept');
    expect(explain(made).join("\n")).toContain("an SSH daemon listens on port 8080");
  });

  it("leaves forwarded connections alone unless a device is named", () => {
    const usual = make();
    expect(usual.ruleset).not.toContain("jump forwarded_new");
    expect(explain(usual).join("\n")).toContain("containers and virtual machines behind this host are left alone");
    const asked = make({ outbound: { networks: ["10.43.0.0/16"], forwarded: ["docker0", "br-*"] } });
    for (const device of ["docker0", "br-*"]) {
      const lines = ["prerouting", "late"]
        .flatMap((chain) => rules(asked.ruleset, chain))
        .filter((line) => line.includes(`iifname "${device}"`));
      expect(lines).toHaveLength(4);
      for (const line of lines) expect(line).toContain("fib daddr type != local");
    }
    // To the outbound listener, never to the one for what comes to this host.
    for (const line of asked.ruleset.split("\n").filter((text) => /forwarded_captured .*tproxy/.test(text)))
      expect(line).toMatch(/to (127\.0\.0\.1|\[::1\]):4140/);
    expect(asked.leaving).not.toContain("jump forwarded_captured");
  });
});

describe("the explanation", () => {
  it("says what is captured, what happens without the agent, and what never is", () => {
    const text = explain(make()).join("\n");
    expect(text).toContain("to 10.43.0.0/16 go to the agent's port 4140");
    expect(text).toMatch(/Outgoing, once .* go direct/);
    expect(text).toMatch(/Incoming, once .* are refused/);
    expect(text).toMatch(/Never captured: uid 990, loopback, SSH \(port 22\)/);
  });

  it("names the open connections whose successors would be captured", () => {
    const connection = (remote: string, more: Partial<LiveConnection> = {}): LiveConnection => ({
      local: { ip: "192.168.1.5", port: 40_000 },
      remote: { ip: remote.split(":")[0] ?? "", port: Number(remote.split(":")[1]) },
      uid: 1000,
      incoming: false,
      ...more,
    });
    const served = { local: { ip: "192.168.1.5", port: 8080 }, incoming: true };
    const found = affected(
      make({
        outbound: { networks: ["10.43.0.0/16"], exempt: [{ network: "10.43.0.9", reason: "enroller" }] },
      }),
      [
        connection("10.43.0.1:80"),
        connection("10.43.0.1:53"),
        connection("10.43.0.9:4145"),
        connection("10.43.0.1:80", { uid: 990 }),
        connection("10.44.0.1:80"),
        connection("192.168.1.9:5000", served),
        connection("192.168.1.5:5000", served),
        connection("192.168.1.9:5000", { local: { ip: "192.168.1.5", port: 22 }, incoming: true }),
      ],
    );
    expect(found.map(({ direction, remote }) => `${direction} ${remote}`)).toEqual([
      "outbound 10.43.0.1:80",
      "inbound 192.168.1.9:5000",
    ]);
  });
});
