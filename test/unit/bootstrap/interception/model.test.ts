import { describe, expect, it } from "vitest";
import { OptionsError, parseOptions } from "../../../../src/bootstrap/interception/index.ts";

const least = { format: 1, agent: { uid: 990 } };

function keyOf(value: unknown): string {
  try {
    parseOptions(value);
  } catch (error) {
    if (error instanceof OptionsError) return error.key;
    throw error;
  }
  return "accepted";
}

describe("interception options", () => {
  it("captures nothing by default, fails open outbound and closed inbound", () => {
    const options = parseOptions(least);
    expect(options.outbound).toEqual({
      networks: [],
      onDeath: "open",
      selection: { by: "host" },
      proxyPort: 4140,
      exempt: [],
      forwarded: [],
    });
    expect(options.inbound).toEqual({ ports: [], onDeath: "closed", proxyPort: 4143, sshPorts: [22] });
    expect(options.routing).toEqual({ mark: 0x1000, table: 4140, priority: 1040 });
  });

  it("reads networks, ranges, selections and exemptions", () => {
    const { outbound, inbound, agent } = parseOptions({
      ...least,
      agent: { uid: 990, unit: "mesh-agent.service" },
      outbound: {
        networks: ["10.43.0.0/16", "fd00:43::/112"],
        selection: { units: ["legacy-app.service", "getty@tty1.service"] },
        exempt: [{ network: "10.43.0.1", port: 443, reason: "kubernetes API" }],
      },
      inbound: { ports: [8080, "9000-9010"] },
    });
    expect(outbound.networks.map((network) => network.prefix)).toEqual([16, 112]);
    expect(outbound.selection).toEqual({ by: "unit", units: ["legacy-app.service", "getty@tty1.service"] });
    expect(outbound.exempt[0]).toMatchObject({ port: 443, network: { prefix: 32 } });
    expect(inbound.ports).toEqual([
      { first: 8080, last: 8080 },
      { first: 9000, last: 9010 },
    ]);
    expect(agent.unit).toBe("mesh-agent.service");
  });

  it.each([
    ["format", { agent: { uid: 990 } }],
    ["agent.uid", { format: 1 }],
    // Root as the exempt user would exempt everything.
    ["agent.uid", { format: 1, agent: { uid: 0 } }],
    ["surprise", { ...least, surprise: 1 }],
    ["inbound.surprise", { ...least, inbound: { surprise: 1 } }],
    ["outbound.networks[1]", { ...least, outbound: { networks: ["10.0.0.0/8", "10.0.0.0/8; flush ruleset"] } }],
    ["outbound.networks[0]", { ...least, outbound: { networks: ["0.0.0.0/0"] } }],
    ["outbound.forwarded[1]", { ...least, outbound: { forwarded: ["docker0", 'x" accept'] } }],
    ["outbound.forwarded[0]", { ...least, outbound: { forwarded: ["*"] } }],
    ["outbound.forwarded[0]", { ...least, outbound: { forwarded: ["lo"] } }],
    ["outbound.forwarded[0]", { ...least, outbound: { forwarded: ["sixteen-letters-"] } }],
    ["outbound.networks[0]", { ...least, outbound: { networks: ["::/0"] } }],
    ["outbound.networks[0]", { ...least, outbound: { networks: ["127.0.0.0/8"] } }],
    ["outbound.onDeath", { ...least, outbound: { onDeath: "ajar" } }],
    ["outbound.selection", { ...least, outbound: { selection: "nobody" } }],
    ["outbound.selection", { ...least, outbound: { selection: { uids: [1], gids: [1] } } }],
    ["outbound.selection.uids", { ...least, outbound: { selection: { uids: [] } } }],
    ["outbound.selection.units[0]", { ...least, outbound: { selection: { units: ['x" accept; #.service'] } } }],
    ["outbound.exempt[0].reason", { ...least, outbound: { exempt: [{ network: "10.0.0.1", reason: 'a"; drop' }] } }],
    ["inbound.ports[0]", { ...least, inbound: { ports: [0] } }],
    ["inbound.ports[0]", { ...least, inbound: { ports: ["9010-9000"] } }],
    ["inbound.ports[0]", { ...least, inbound: { ports: ["1-2-3"] } }],
    ["inbound.ports[1]", { ...least, inbound: { ports: [8080, 22] } }],
    ["inbound.ports[0]", { ...least, inbound: { ports: ["4000-5000"] } }],
    ["routing.mark", { ...least, routing: { mark: 0x3000 } }],
    ["routing.table", { ...least, routing: { table: 254 } }],
    ["routing.priority", { ...least, routing: { priority: 32_766 } }],
    ["file", []],
    ["file", undefined],
  ])("refuses %s in %j", (key, value) => {
    expect(keyOf(value)).toBe(key);
  });
});
