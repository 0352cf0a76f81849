import { expect, test } from "vitest";
import { parseContextToken, parseWorkloadToken } from "../../../../src/lab/linkerd/workload-token.ts";

test.each([
  ['{"ns":"a","external_workload":"vm"}', { kind: "external-workload", namespace: "a", name: "vm" }],
  ['{ "external_workload": "vm", "ns": "a" }\n', { kind: "external-workload", namespace: "a", name: "vm" }],
  ['{"ns":"a", "pod":"p"}\n', { kind: "pod", namespace: "a", name: "p" }],
  ["a:p", { kind: "pod", namespace: "a", name: "p" }],
])("%j", (text, expected) => {
  expect(parseWorkloadToken(text)).toEqual(expected);
});

test.each(["", "{}", '{"ns":"a"}', '{"pod":"p"}', "{", "a", ":p", "a:", '{"ns":1,"pod":"p"}'])(
  "%j is refused",
  (text) => {
    expect(() => parseWorkloadToken(text)).toThrow("Invalid workload");
  },
);

test("in JSON an empty name is a name", () => {
  expect(parseWorkloadToken('{"ns":"","pod":"p"}')).toEqual({ kind: "pod", namespace: "", name: "p" });
});

test("leading whitespace selects the old form, as in the policy controller", () => {
  expect(parseWorkloadToken(' {"ns":"a","pod":"p"}').kind).toBe("pod");
});

test.each([
  ['{"ns":"a","nodeName":"n"}', { namespace: "a", nodeName: "n" }],
  ['{"ns":"a","external_workload":"vm"}\n', { namespace: "a", nodeName: undefined }],
  ["ns:a", { namespace: "a", nodeName: undefined }],
  ["", { namespace: undefined, nodeName: undefined }],
  ["garbage", { namespace: undefined, nodeName: undefined }],
  ["[]", { namespace: undefined, nodeName: undefined }],
])("context %j", (text, expected) => {
  expect(parseContextToken(text)).toEqual(expected);
});
