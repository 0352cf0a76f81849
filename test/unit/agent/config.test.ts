import { expect, it } from "vitest";
import { decodeConfig, KEYS } from "../../../src/agent/config.ts";

const said = (yaml: string): string => {
  try {
    decodeConfig(yaml, "config.yaml");
  } catch (error) {
    const { message, exitCode } = error as { message: string; exitCode: number };
    expect(exitCode).toBe(64);
    expect(message).not.toContain("\n");
    return message;
  }
  return "accepted";
};

it.each<[string, string, string]>([
  ["an unknown key", "inbound:\n  prt: 1\n", "config.yaml:2: inbound.prt: unknown key; expected one of port, ports, "],
  [
    "a key in capitals",
    "inbound:\n  Port: 1\n",
    "config.yaml:2: inbound.Port: unknown key; did you mean inbound.port?",
  ],
  [
    "a key without its section",
    "onMissingIdentity: refuse\n",
    "config.yaml:1: onMissingIdentity: unknown key; did you mean outbound.onMissingIdentity?",
  ],
  [
    "an unknown section",
    "logs:\n  level: info\n",
    "config.yaml:1: logs: unknown key; expected a section: workload, identity, ",
  ],
  [
    "a key that stands twice",
    "inbound:\n  port: 4143\n  port: 4144\n",
    "config.yaml:3: port: stands twice in its section",
  ],
  [
    "a section that stands twice",
    "log:\n  level: info\nlog:\n  level: warn\n",
    "config.yaml:3: log: stands twice in its section",
  ],
  ["a key once more with a dot", "log:\n  level: info\nlog.level: warn\n", "config.yaml:3: log.level: stands twice"],
  [
    "a number out of range",
    "inbound:\n  port: 99999\n",
    "config.yaml:2: inbound.port: expected a whole number from 1 to 65535, found 99999",
  ],
  [
    "a word for a number",
    "inbound:\n\n  # the port\n  port: http\n",
    'config.yaml:4: inbound.port: expected a whole number from 1 to 65535, found "http"',
  ],
  [
    "a duration without its unit",
    "drain:\n  timeout: 120\n",
    "config.yaml:2: drain.timeout: expected a duration such as 500ms, 10s, 5m, 24h, found 120",
  ],
  [
    "a word that is no choice",
    "outbound:\n  onMissingIdentity: ignore\n",
    'config.yaml:2: outbound.onMissingIdentity: expected one of refuse, plaintext, found "ignore"',
  ],
  [
    "a network that is none",
    "interception:\n  capture: [10.0.0.0/8, 10.0.0.0/99]\n",
    "config.yaml:2: interception.capture: expected a list of networks such as 10.0.0.0/8",
  ],
  ["a value for a section", "inbound: 4143\n", "config.yaml:1: inbound: expected keys beneath it, found a value"],
  [
    "nothing for a value",
    "log:\n  level:\n",
    "config.yaml:2: log.level: expected one of error, warn, info, debug, found null",
  ],
  ["a list", "- inbound\n", "config.yaml:1: expected keys and values"],
  ["a tab", "inbound:\n\tport: 1\n", "config.yaml:2: expected spaces before the key, found a tab"],
  ["an open bracket", "inbound:\n  ports: [1\n", "config.yaml:"],
  ["an open quote", 'log:\n  level: "info\n', "config.yaml:"],
  ["two documents", "log:\n  level: info\n---\nlog: {}\n", "config.yaml:3: expected one document"],
])("%s: file, line, key, and what was expected", (_, yaml, message) => {
  expect(said(yaml)).toContain(message);
});

it("takes every default as a value, written as the file has it", () => {
  for (const [key, { initial }] of Object.entries(KEYS)) {
    const [section = "", name = ""] = key.split(/\.(.*)/);
    expect(said(`${section}:\n  ${name}: ${initial === "" ? '""' : initial}\n`), key).toBe("accepted");
  }
});

it("says of every key what a value looks like and what it does", () => {
  for (const [key, { doc, expects }] of Object.entries(KEYS)) {
    expect(doc, key).toMatch(/\.$/);
    expect(expects, key).not.toBe("");
  }
});
