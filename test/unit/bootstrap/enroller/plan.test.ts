import { describe, expect, it } from "vitest";
import {
  needsQuiet,
  planRegistration,
  planStatus,
  planWorkload,
  readRegistration,
  sameReadiness,
  withCertificate,
  workloadNameOf,
} from "../../../../src/bootstrap/enroller/plan.ts";
import type { ExternalWorkload } from "../../../../src/bootstrap/enroller/resources.ts";
import { testTerms } from "../../../support/mesh-kube.ts";

const MESH = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };
const terms = testTerms({
  labels: { app: "legacy-app", "topology.kubernetes.io/zone": "dc1" },
  opaquePorts: [25, 3306],
});
const registration = planRegistration(terms, "0123456789", "ab".repeat(32), "key1", true);

describe("the wanted ExternalWorkload", () => {
  const wanted = planWorkload(registration, ["192.0.2.1"], MESH);

  it("has a URI as identity and a DNS name as server name, or clients would speak plaintext", () => {
    expect(new URL(wanted.spec?.meshTLS.identity ?? "").href).toBe("spiffe://cluster.local/ns/shop/sa/legacy");
    expect(wanted.spec?.meshTLS.serverName).toBe("legacy.shop.serviceaccount.identity.linkerd.cluster.local");
    expect(wanted.apiVersion).toBe("workload.linkerd.io/v1beta1");
  });

  it("writes opaque ports out, as numbers, also when there are none", () => {
    expect(wanted.metadata.annotations?.["config.linkerd.io/opaque-ports"]).toBe("25,3306");
    const none = planWorkload({ ...registration, opaquePorts: [] }, [], MESH);
    expect(none.metadata.annotations?.["config.linkerd.io/opaque-ports"]).toBe("");
  });

  it("declares the metrics port, unless told not to or the workload has it", () => {
    expect(wanted.spec?.ports).toEqual([
      { name: "http", port: 8080, protocol: "TCP" },
      { name: "linkerd-admin", port: 4191, protocol: "TCP" },
    ]);
    expect(planWorkload({ ...registration, metricsPort: false }, [], MESH).spec?.ports).toHaveLength(1);
  });

  it("has no address, rather than an empty one, while none is known", () => {
    expect(planWorkload(registration, [], MESH).spec).not.toHaveProperty("workloadIPs");
    expect(wanted.spec?.workloadIPs).toEqual([{ ip: "192.0.2.1" }]);
  });

  it("carries no status: it would be dropped", () => {
    expect(wanted).not.toHaveProperty("status");
  });

  it("is read back as it was planned", () => {
    const full = withCertificate({ ...registration, defaultInboundPolicy: "deny" }, "key2", 1_800_000_000_000);
    expect(readRegistration(planWorkload(full, ["192.0.2.1"], MESH))).toEqual(full);
    expect(readRegistration(planWorkload({ ...full, revoked: "stolen" }, [], MESH))?.revoked).toBe("stolen");
  });

  it("is not ours without our marks", () => {
    expect(readRegistration({ ...wanted, metadata: { name: "x", namespace: "shop" } })).toBeUndefined();
  });
});

it("names a workload after its machine, as a DNS label, always the same", () => {
  const one = workloadNameOf(terms, "a".repeat(64));
  expect(one.name).toMatch(/^legacy-app-[0-9a-f]{8}$/);
  expect(workloadNameOf(terms, "a".repeat(64))).toEqual(one);
  expect(workloadNameOf(terms, "b".repeat(64)).name).not.toBe(one.name);
});

it("remembers the present key and the one before, no more", () => {
  const twice = withCertificate(withCertificate(registration, "key2", 0), "key3", 0);
  expect(twice.keys).toEqual(["key3", "key2"]);
  expect(withCertificate(twice, "key3", 0).keys).toEqual(["key3", "key2"]);
});

describe("a change that needs quiet", () => {
  const now = planWorkload(registration, ["192.0.2.1"], MESH);
  it.each([
    ["another address", planWorkload(registration, ["192.0.2.2"], MESH), true],
    ["another port", planWorkload({ ...registration, ports: [] }, ["192.0.2.1"], MESH), true],
    ["other opaque ports", planWorkload({ ...registration, opaquePorts: [] }, ["192.0.2.1"], MESH), true],
    ["another key", planWorkload(withCertificate(registration, "k", 0), ["192.0.2.1"], MESH), false],
    ["a label", planWorkload({ ...registration, labels: {} }, ["192.0.2.1"], MESH), false],
  ])("%s: %s", (_what, wanted, quiet) => {
    expect(needsQuiet(now, wanted)).toBe(quiet);
  });
});

describe("the status", () => {
  const object = (conditions: unknown): ExternalWorkload =>
    ({ ...planWorkload(registration, [], MESH), status: { conditions } }) as ExternalWorkload;
  const down = { ready: false, reason: "HostUnreachable", message: "nothing heard" };

  it("keeps the conditions of others, and the time since when nothing changed", () => {
    const others = { type: "Other", status: "True" };
    const before = { type: "Ready", status: "False", reason: "Old", lastTransitionTime: "2026-01-01T00:00:00Z" };
    const { status } = planStatus(object([others, before]), down, "2026-02-02T00:00:00Z");
    expect(status?.conditions).toEqual([
      others,
      {
        type: "Ready",
        status: "False",
        reason: "HostUnreachable",
        message: "nothing heard",
        lastTransitionTime: "2026-01-01T00:00:00Z",
      },
    ]);
    const up = planStatus(object([before]), { ...down, ready: true }, "2026-02-02T00:00:00Z");
    expect(up.status?.conditions?.[0]?.lastTransitionTime).toBe("2026-02-02T00:00:00Z");
  });

  it("cannot be made invalid by what a host says", () => {
    const { status } = planStatus(
      object([]),
      { ready: false, reason: "no good!", message: `a\u001b[31m\n${"x".repeat(5000)}` },
      "t",
    );
    expect(status?.conditions?.[0]?.reason).toBe("Unknown");
    expect(status?.conditions?.[0]?.message).not.toMatch(/\p{Cc}/u);
    expect(status?.conditions?.[0]?.message?.length).toBeLessThanOrEqual(1024);
  });

  it("knows when there is nothing to write", () => {
    const { status } = planStatus(object([]), down, "t");
    expect(sameReadiness(status?.conditions?.[0], down)).toBe(true);
    expect(sameReadiness(status?.conditions?.[0], { ...down, ready: true })).toBe(false);
    expect(sameReadiness(undefined, down)).toBe(false);
  });
});
