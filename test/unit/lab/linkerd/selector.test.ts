import { expect, test } from "vitest";
import type { Selector } from "../../../../src/lab/linkerd/objects.ts";
import { selects } from "../../../../src/lab/linkerd/selector.ts";

const LABELS = { app: "web", tier: "front" };

test.each<[Selector, boolean]>([
  [{}, true],
  [{ matchLabels: { app: "web" } }, true],
  [{ matchLabels: { app: "web", tier: "back" } }, false],
  [{ matchExpressions: [{ key: "app", operator: "In", values: ["a", "web"] }] }, true],
  [{ matchExpressions: [{ key: "none", operator: "In", values: ["a"] }] }, false],
  [{ matchExpressions: [{ key: "none", operator: "NotIn", values: ["a"] }] }, true],
  [{ matchExpressions: [{ key: "app", operator: "NotIn", values: ["web"] }] }, false],
  [{ matchExpressions: [{ key: "app", operator: "Exists" }] }, true],
  [{ matchExpressions: [{ key: "app", operator: "DoesNotExist" }] }, false],
  [{ matchLabels: { app: "web" }, matchExpressions: [{ key: "none", operator: "Exists" }] }, false],
])("%j: %s", (selector, expected) => {
  expect(selects(selector, LABELS)).toBe(expected);
});

test("no labels satisfy an empty selector only", () => {
  expect(selects({}, undefined)).toBe(true);
  expect(selects({ matchLabels: { a: "b" } }, undefined)).toBe(false);
});
