import { describe, expect, it } from "vitest";
import { parseFieldSelector, parseLabelSelector } from "../../../../src/lab/api/selector.ts";

const object = {
  metadata: { name: "n", labels: { app: "web", tier: "2", "a.b/c": "" } },
  status: { phase: "Running" },
};

describe("label selectors", () => {
  it.each([
    ["app=web", true],
    ["app==web", true],
    ["app!=web", false],
    ["other!=web", true],
    ["app in (a, web)", true],
    ["app in (a,b),tier=2", false],
    ["app notin (a,b)", true],
    ["other notin (a)", true],
    ["app", true],
    ["!app", false],
    ["! other", true],
    ["a.b/c=", true],
    ["tier>1,tier<3", true],
    ["", true],
  ])("%s: %s", (text, matches) => {
    expect(parseLabelSelector(text)(object)).toBe(matches);
  });

  it("refuses what does not parse", () => {
    expect(() => parseLabelSelector("app in web")).toThrow("unable to parse requirement");
  });
});

describe("field selectors", () => {
  it("compares fields as text", () => {
    expect(parseFieldSelector("metadata.name=n,status.phase!=Pending", false)(object)).toBe(true);
    expect(parseFieldSelector("spec.nodeName=", false)(object)).toBe(true);
    expect(parseFieldSelector("status.phase=Pending", false)(object)).toBe(false);
  });

  it("offers name and namespace only for a custom resource", () => {
    expect(() => parseFieldSelector("status.phase=Pending", true)).toThrow("field label not supported: status.phase");
  });
});
