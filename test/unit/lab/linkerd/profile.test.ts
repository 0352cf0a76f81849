import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import type { ServiceProfile } from "../../../../src/lab/linkerd/objects.ts";
import { lookupProfile, profileSource } from "../../../../src/lab/linkerd/profile.ts";
import { KINDS } from "../../../../src/lab/linkerd/store.ts";
import { labCluster } from "../../../support/lab-cluster.ts";
import { externalWorkload, pod, service } from "../../../support/mesh-objects.ts";

const CONTEXT = { namespace: "client", nodeName: undefined };
const BUDGET = { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: { seconds: 10n, nanos: 0 } };

test("a ClusterIP, or the name, is a Service's profile", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("web", 1));
  const expected = {
    fullyQualifiedName: "web.ns.svc.cluster.local",
    opaqueProtocol: false,
    retryBudget: BUDGET,
    parentRef: {
      kind: { case: "resource", value: { group: "core", kind: "Service", name: "web", namespace: "ns", port: 80 } },
    },
    // Of a ServiceProfile that is not there.
    profileRef: { kind: { case: "resource", value: { group: "linkerd.io", name: "", namespace: "" } } },
  };
  expect(lookupProfile(cluster, "10.96.0.1:80", CONTEXT)).toEqual(expected);
  expect(lookupProfile(cluster, "web.ns.svc.cluster.local:80", CONTEXT)).toEqual(expected);
  expect(lookupProfile(cluster, "web.ns.svc.cluster.local", CONTEXT)).toEqual(expected);
});

test("a port that the Service does not have is an empty profile", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("web", 1));
  expect(lookupProfile(cluster, "10.96.0.1:81", CONTEXT)).toEqual({});
});

test("a Service's port is opaque by the default list, or by its annotation, which may name it", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("db", 1, { port: 3306 }));
  cluster.store.put(KINDS.services, service("db2", 2, { port: 3306 }, { "config.linkerd.io/opaque-ports": "" }));
  cluster.store.put(KINDS.services, service("web", 3, {}, { "config.linkerd.io/opaque-ports": "http" }));
  expect(lookupProfile(cluster, "10.96.0.1:3306", CONTEXT)?.opaqueProtocol).toBe(true);
  expect(lookupProfile(cluster, "10.96.0.2:3306", CONTEXT)?.opaqueProtocol).toBe(false);
  expect(lookupProfile(cluster, "10.96.0.3:80", CONTEXT)?.opaqueProtocol).toBe(true);
});

test("pods and ExternalWorkloads are endpoints, with their namespace", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.pods, pod("web", "10.1.0.1"));
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.9"));
  const ofPod = lookupProfile(cluster, "10.1.0.1:1234", CONTEXT);
  expect(ofPod?.endpoint?.metricLabels).toMatchObject({ pod: "web", namespace: "ns", zone: "" });
  expect(ofPod?.fullyQualifiedName).toBeUndefined();
  const ofVm = lookupProfile(cluster, "10.0.0.9:3306", CONTEXT);
  expect(ofVm?.opaqueProtocol).toBe(true);
  expect(ofVm?.endpoint?.metricLabels).toEqual({ external_workload: "vm", namespace: "ns", zone: "" });
  expect(ofVm?.endpoint?.tlsIdentity?.strategy?.case).toBe("uriLikeIdentity");
});

test("a path is understood once: what then loses its address is not noticed, what is deleted is", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("web", 1));
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.9"));
  const ofService = profileSource(cluster, "10.96.0.1:80", CONTEXT);
  const ofVm = profileSource(cluster, "10.0.0.9:3306", CONTEXT);
  expect(ofService()?.fullyQualifiedName).toBe("web.ns.svc.cluster.local");
  expect(ofVm()?.endpoint?.metricLabels).toMatchObject({ external_workload: "vm" });
  cluster.store.delete(KINDS.services, "ns", "web");
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.8"));
  expect([ofService(), ofVm()]).toEqual([undefined, undefined]);
  cluster.store.delete(KINDS.externalWorkloads, "ns", "vm");
  expect(ofVm()?.endpoint?.metricLabels).toEqual({});
});

test("the kind of an ExternalWorkload's owner is written as it is here, and small in endpoints of a Service", () => {
  const cluster = labCluster();
  const vm = externalWorkload("vm", "10.0.0.9");
  const ownerReferences = [{ apiVersion: "v1", kind: "ConfigMap", name: "owner", uid: "1" }];
  cluster.store.put(KINDS.externalWorkloads, { ...vm, metadata: { ...vm.metadata, ownerReferences } });
  const answer = lookupProfile(cluster, "10.0.0.9:3306", CONTEXT);
  expect(answer?.endpoint?.metricLabels).toMatchObject({ ConfigMap: "owner" });
});

test("ports that an ExternalWorkload does not declare, and strangers, are bare addresses", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("vm", "10.0.0.9"));
  for (const path of ["10.0.0.9:4143", "10.200.0.1:80", "[fd00::1]:80"]) {
    const { endpoint, opaqueProtocol, retryBudget } = lookupProfile(cluster, path, CONTEXT) ?? {};
    expect(endpoint?.weight).toBe(10_000);
    expect(endpoint?.tlsIdentity).toBeUndefined();
    expect(endpoint?.metricLabels).toEqual({});
    expect(opaqueProtocol).toBe(false);
    expect(retryBudget).toEqual(BUDGET);
  }
  expect(lookupProfile(cluster, "10.200.0.1:5432", CONTEXT)?.opaqueProtocol).toBe(true);
});

test("a host's port leads to the pod behind it, and keeps its address; a dead pod is nobody, nor one to come", () => {
  const cluster = labCluster();
  const base = pod("web", "10.1.0.1");
  const containers = [{ name: "app", ports: [{ containerPort: 8080, hostPort: 80 }] }];
  const hosted: typeof base = {
    ...base,
    spec: { ...base.spec, containers },
    status: { ...base.status, hostIP: "10.2.0.1" },
  };
  cluster.store.put(KINDS.pods, hosted);
  const endpoint = lookupProfile(cluster, "10.2.0.1:80", CONTEXT)?.endpoint;
  expect(endpoint?.addr).toEqual({ ip: { ip: { case: "ipv4", value: 0x0a020001 } }, port: 80 });
  expect(endpoint?.metricLabels).toMatchObject({ pod: "web" });
  for (const phase of ["Succeeded", "Pending"]) {
    cluster.store.put<typeof base>(KINDS.pods, { ...hosted, status: { ...hosted.status, phase } });
    expect(lookupProfile(cluster, "10.1.0.1:80", CONTEXT)?.endpoint?.metricLabels).toEqual({});
  }
});

test("an address that several claim is a failed precondition", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("a", 1));
  cluster.store.put(KINDS.services, service("b", 1));
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("c", "10.0.0.9"));
  cluster.store.put(KINDS.externalWorkloads, externalWorkload("d", "10.0.0.9"));
  for (const path of ["10.96.0.1:80", "10.0.0.9:8080"]) {
    expect(() => lookupProfile(cluster, path, CONTEXT)).toThrow(
      expect.objectContaining({ code: status.FAILED_PRECONDITION }),
    );
  }
});

test.each([
  ["example.com:80", status.INVALID_ARGUMENT],
  ["10.0.0.1:0", status.INVALID_ARGUMENT],
  ["nobody.ns.svc.cluster.local:80", status.UNKNOWN],
  ["host.nobody.ns.svc.cluster.local:80", status.NOT_FOUND],
])("%s is code %d", (path, code) => {
  expect(() => lookupProfile(labCluster(), path, CONTEXT)).toThrow(expect.objectContaining({ code }));
});

test("a ServiceProfile of the client's namespace comes before one of the Service's", () => {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("web", 1));
  const profile = (namespace: string, spec: ServiceProfile["spec"] = {}): ServiceProfile => ({
    apiVersion: "linkerd.io/v1alpha2",
    kind: "ServiceProfile",
    metadata: { name: "web.ns.svc.cluster.local", namespace },
    spec,
  });
  cluster.store.put(
    KINDS.serviceProfiles,
    profile("ns", {
      routes: [
        {
          name: "read",
          condition: { method: "GET", pathRegex: "/a/.*" },
          responseClasses: [{ condition: { status: { min: 500, max: 599 } }, isFailure: true }],
          isRetryable: true,
          timeout: "300ms",
        },
        { condition: { any: [{ method: "PURGE" }, { not: { pathRegex: "/" } }] } },
      ],
      retryBudget: { retryRatio: 0.5, minRetriesPerSecond: 1, ttl: "5s" },
      dstOverrides: [
        { authority: "a.ns.svc.cluster.local:80", weight: "900m" },
        { authority: "b.ns.svc.cluster.local", weight: 1 },
      ],
    }),
  );
  const answer = lookupProfile(cluster, "10.96.0.1:80", CONTEXT);
  expect(answer?.routes).toEqual([
    {
      condition: {
        match: {
          case: "all",
          value: {
            matches: [
              { match: { case: "method", value: { type: { case: "registered", value: 0 } } } },
              { match: { case: "path", value: { regex: "/a/.*" } } },
            ],
          },
        },
      },
      responseClasses: [{ condition: { match: { case: "status", value: { min: 500, max: 599 } } }, isFailure: true }],
      metricsLabels: { route: "read" },
      isRetryable: true,
      timeout: { seconds: 0n, nanos: 300_000_000 },
    },
    expect.objectContaining({
      condition: {
        match: {
          case: "any",
          value: {
            matches: [
              { match: { case: "method", value: { type: { case: "unregistered", value: "PURGE" } } } },
              { match: { case: "not", value: { match: { case: "path", value: { regex: "/" } } } } },
            ],
          },
        },
      },
    }),
  ]);
  expect(answer?.retryBudget).toEqual({ retryRatio: 0.5, minRetriesPerSecond: 1, ttl: { seconds: 5n, nanos: 0 } });
  expect(answer?.dstOverrides).toMatchObject([
    { authority: "a.ns.svc.cluster.local:80", weight: 9000 },
    // Without a port: that of the question.
    { authority: "b.ns.svc.cluster.local:80", weight: 10_000 },
  ]);
  cluster.store.put(KINDS.serviceProfiles, profile("client"));
  expect(lookupProfile(cluster, "10.96.0.1:80", CONTEXT)?.routes).toEqual([]);
});

test.each([
  ["a condition that says nothing", { routes: [{ name: "r", condition: {} }] }],
  ["no condition", { routes: [{ name: "r" }] }],
  ["a response class without one", { routes: [{ condition: { method: "GET" }, responseClasses: [{}] }] }],
  ["a lifetime that is none", { retryBudget: { retryRatio: 0.1, minRetriesPerSecond: 1, ttl: "soon" } }],
] as const)("a ServiceProfile with %s is no answer at all", (_what, spec) => {
  const cluster = labCluster();
  cluster.store.put(KINDS.services, service("web", 1));
  const metadata = { name: "web.ns.svc.cluster.local", namespace: "ns" };
  const object: ServiceProfile = { apiVersion: "linkerd.io/v1alpha2", kind: "ServiceProfile", metadata, spec };
  cluster.store.put<ServiceProfile>(KINDS.serviceProfiles, object);
  expect(lookupProfile(cluster, "10.96.0.1:80", CONTEXT)).toBeUndefined();
});
