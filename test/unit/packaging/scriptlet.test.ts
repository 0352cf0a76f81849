import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { scriptlet } from "../../../packaging/scriptlet.ts";

test.each([
  ["deb", "postinst"],
  ["deb", "prerm"],
  ["deb", "postrm"],
  ["rpm", "post"],
  ["rpm", "preun"],
  ["rpm", "postun"],
] as const)("the script %s/%s has all steps that it calls, and is one that a plain shell reads", (format, name) => {
  const script = scriptlet(format, name);
  expect(script).not.toContain("#STEPS#");
  execFileSync("sh", ["-n"], { input: script });
  const defined = [...script.matchAll(/^(\w+)\(\) \{$/gm)].map(([, step]) => step);
  expect(defined).toEqual(["make_user", "take_over", "leave", "forget_units", "forget_host"]);
  expect(script.slice(script.lastIndexOf("\n}\n"))).toMatch(new RegExp(`\\b(?:${defined.join("|")})\\b`));
  expect(script).toMatch(/exit 0\n$/);
});
