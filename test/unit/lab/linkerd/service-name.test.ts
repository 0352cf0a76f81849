import { expect, test } from "vitest";
import { parseServiceName, splitAuthority } from "../../../../src/lab/linkerd/service-name.ts";

test.each([
  ["web.ns.svc.cluster.local", { name: "web", namespace: "ns", hostname: undefined }],
  ["db-0.db.ns.svc.cluster.local", { hostname: "db-0", name: "db", namespace: "ns" }],
  ["web.ns.svc.cluster.local.", undefined],
  ["ns.svc.cluster.local", undefined],
  ["svc.cluster.local", undefined],
  ["a.b.c.d.svc.cluster.local", undefined],
  [".ns.svc.cluster.local", undefined],
  ["web.ns.svc.example.org", undefined],
])("%s", (host, expected) => {
  expect(parseServiceName(host, "cluster.local")).toEqual(expected);
});

test.each([
  ["web:8080", { host: "web", port: 8080 }],
  ["web", { host: "web", port: 80 }],
  ["[fd00::1]:443", { host: "fd00::1", port: 443 }],
  ["web:0", undefined],
  ["web:65536", undefined],
  ["web:x", undefined],
])("authority %s", (text, expected) => {
  expect(splitAuthority(text)).toEqual(expected);
});
