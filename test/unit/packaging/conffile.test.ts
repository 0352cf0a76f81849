import { expect, test } from "vitest";
import { conffile } from "../../../packaging/conffile.ts";
import { decodeConfig, defaultConfig, KEYS } from "../../../src/agent/config.ts";

test("the configuration file as installed can be read, and says nothing but the defaults", () => {
  expect(decodeConfig(conffile(), "config.yaml")).toEqual(defaultConfig());
});

test("it can be read with every key set to its default", () => {
  const set = conffile()
    .split("\n")
    .map((line) => (/^ {2}# [A-Za-z0-9]+: (?!.*\()/.test(line) ? line.replace("# ", "") : line))
    .join("\n");
  expect(() => decodeConfig(set, "config.yaml")).not.toThrow();
  const sections = [...set.matchAll(/^(\w+):$/gm)].map(([, name]) => name);
  expect(sections).toEqual([...new Set(Object.keys(KEYS).map((key) => key.slice(0, key.indexOf("."))))]);
});
