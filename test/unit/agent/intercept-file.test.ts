import { expect, it } from "vitest";
import { decodeConfig } from "../../../src/agent/config.ts";
import { interceptionFile } from "../../../src/agent/intercept-file.ts";
import { parseOptions } from "../../../src/bootstrap/interception/index.ts";

const made = (yaml: string, apiServers: readonly string[] = []) =>
  parseOptions(interceptionFile(decodeConfig(yaml, "test"), undefined, ["10.0.0.5:4145"], apiServers, 990, undefined));

it("exempts the enroller, the Kubernetes API, and what the operator names", () => {
  const yaml = 'interception:\n  exempt: [10.96.0.1, "10.96.0.2:8443", "10.97.0.0/16", "[fd00::1]:443", fd00:1::/64]\n';
  expect(
    made(yaml, ["10.96.0.1"]).outbound.exempt.map(({ network, port, reason }) => [network.prefix, port, reason]),
  ).toEqual([
    [32, 4145, "enroller"],
    [32, undefined, "interception.exempt"],
    [32, 8443, "interception.exempt"],
    [16, undefined, "interception.exempt"],
    [128, 443, "interception.exempt"],
    [64, undefined, "interception.exempt"],
    [32, 443, "Kubernetes API"],
  ]);
});

it.each([
  ["users: [root, 1234]", { by: "uid", ids: [0, 1234] }],
  ["groups: [root, 1234]", { by: "gid", ids: [0, 1234] }],
  ["units: [app.service]", { by: "unit", units: ["app.service"] }],
  ["users: []", { by: "host" }],
])("interception.%s selects", (line, selection) => {
  expect(made(`interception:\n  ${line}\n`).outbound.selection).toEqual(selection);
});

it.each([
  ["users: [root]\n  groups: [root]", "interception.users and interception.groups are both set"],
  ["groups: [root]\n  units: [a.service]", "interception.groups and interception.units are both set"],
  ["users: [nobody-of-that-name]", "interception.users: there is no user nobody-of-that-name"],
  ["groups: [nobody-of-that-name]", "interception.groups: there is no group nobody-of-that-name"],
])("interception.%s is refused", (line, message) => {
  expect(() => made(`interception:\n  ${line}\n`)).toThrow(message);
});

it.each([
  "exempt: [everywhere]",
  "exempt: [10.0.0.1:99999]",
  "forwarded: [lo]",
  'forwarded: ["a b"]',
  "reassert: maybe",
])("interception.%s is refused with its line", (line) => {
  expect(() => made(`interception:\n  ${line}\n`)).toThrow(/^test:2: interception\./);
});

it("names the devices whose forwarded connections are wanted", () => {
  expect(made('interception:\n  forwarded: docker0, "br-*"\n'.replaceAll('"', "")).outbound.forwarded).toEqual([
    "docker0",
    "br-*",
  ]);
});
