import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createInvitation,
  decide,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  type ExternalWorkloadGroup,
  GROUPS,
  isReady,
  KubeError,
  type RunningEnroller,
  revokeHost,
  SECRETS,
  startEnroller,
  sweepInvitations,
  waitingHosts,
} from "../../../src/bootstrap/enroller/index.ts";
import type { KubernetesClient } from "../../../src/bootstrap/enroller/kubernetes-client.ts";
import { generateKey } from "../../../src/bootstrap/identity/index.ts";
import { attach, bind, type ClusterSite, clusterSite, joinAs, named, put } from "../../support/cluster-site.ts";
import { testTerms } from "../../support/mesh-kube.ts";
import { until } from "../../support/until.ts";

let site: ClusterSite;
let enroller: RunningEnroller;
let inviter: KubernetesClient;
let approver: KubernetesClient;
const stops: (() => unknown)[] = [];

beforeAll(async () => {
  site = await clusterSite();
  inviter = site.as("shop", "inviter");
  approver = site.as("shop", "approver");
  await bind(site, "ClusterRole", "mesh-agent-inviter", "shop", "shop/inviter");
  await bind(site, "Role", "mesh-agent-inviter", "linkerd", "shop/inviter");
  await bind(site, "ClusterRole", "mesh-agent-approver", "shop", "shop/approver");
  enroller = await startEnroller({
    client: site.as("linkerd", "mesh-agent-enroller"),
    listen: { host: "127.0.0.1", port: 0 },
    version: "0.1.0",
    heartbeatMs: 200,
    settleMs: { min: 20, max: 500 },
  });
});

afterAll(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
  await enroller?.stop(100);
  await site?.close();
});

const invite = (name: string, more: Partial<Parameters<typeof createInvitation>[1]> = {}, uses = 5) =>
  createInvitation(inviter, {
    namespace: "linkerd",
    terms: testTerms({ name, uses, opaquePorts: [] }),
    enrollers: [`127.0.0.1:${enroller.address.port}`],
    ...more,
  });

const group = async (name: string) => {
  const found = await site.admin.get<ExternalWorkloadGroup>(GROUPS, "shop", name);
  if (found === undefined) throw new Error(`no group ${name}`);
  return found;
};

/** Reads, changes and writes, again if the enroller wrote in between. */
async function change(name: string, by: (spec: ExternalWorkloadGroup["spec"]) => ExternalWorkloadGroup["spec"]) {
  for (;;) {
    const found = await group(name);
    try {
      await site.admin.update<ExternalWorkloadGroup>(GROUPS, "shop", { ...found, spec: by(found.spec) });
      return;
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== 409) throw error;
    }
  }
}

const workload = (name: string) => site.admin.get<ExternalWorkload>(EXTERNAL_WORKLOADS, "shop", name);

describe("a group", () => {
  it("is made by its first invitation, and used by the next ones", async () => {
    const first = await invite("made");
    expect(first.created).toBe(true);
    expect((await group("made")).spec.template).toMatchObject({ serviceAccountName: "legacy" });
    const again = await invite("made", { described: false, terms: testTerms({ name: "made", ports: [] }) });
    expect(again.created).toBe(false);
    const other = testTerms({ name: "made", opaquePorts: [], ports: [{ name: "db", port: 5432, protocol: "TCP" }] });
    await expect(invite("made", { terms: other })).rejects.toThrow("says otherwise about ports");
  });

  it("says what its hosts are, when they come", async () => {
    const { joinString } = await invite("late");
    await change("late", (spec) => ({
      ...spec,
      template: { ...spec.template, ports: [{ name: "web", port: 9090 }], metadata: { annotations: { team: "a" } } },
    }));
    const { configuration } = await joinAs(joinString, "late-1");
    expect(configuration.ports.map(({ port }) => port)).toEqual([9090]);
    const { metadata } = (await workload(configuration.workload.name)) ?? {};
    expect(metadata?.annotations).toMatchObject({ team: "a" });
    expect(metadata?.labels).toMatchObject({ "mesh-agent/group": "late" });
  });

  it("that is gone admits nobody, and costs no use", async () => {
    const { joinString } = await invite("gone", {}, 1);
    await site.admin.delete(GROUPS, "shop", "gone");
    await expect(joinAs(joinString, "gone-1")).rejects.toMatchObject({ code: "group-gone" });
    await invite("gone");
    await expect(joinAs(joinString, "gone-1")).resolves.toBeDefined();
  });

  it("admits from its networks only", async () => {
    const admission = { allowedNetworks: ["198.51.100.0/24"] };
    // Dialled directly: there is no Service in between that could hide the source.
    const { joinString } = await invite("networks", { admission });
    await expect(joinAs(joinString, "networks-1")).rejects.toMatchObject({ code: "invitation-network" });
    await change("networks", (spec) => ({ ...spec, admission: { allowedNetworks: ["127.0.0.0/8"] } }));
    await expect(joinAs(joinString, "networks-1")).resolves.toBeDefined();
  });

  it("has no more hosts than it allows, over all its invitations and at the same moment", async () => {
    const one = await invite("bounded", { admission: { maxHosts: 3 } });
    const two = await invite("bounded", { described: false });
    const attempts = Array.from({ length: 8 }, (_, i) =>
      joinAs((i % 2 === 0 ? one : two).joinString, `bounded-${i}`).then(
        () => "joined",
        (error: { code: string }) => error.code,
      ),
    );
    const ends = await Promise.all(attempts);
    expect(ends.filter((end) => end === "joined")).toHaveLength(3);
    expect(new Set(ends)).toEqual(new Set(["joined", "group-full"]));
    const hosts = await site.admin.list(EXTERNAL_WORKLOADS, "shop", "mesh-agent/group=bounded");
    expect(hosts).toHaveLength(3);
    await until(async () => (await group("bounded")).status?.registered === 3, "counted");
  });
});

describe("approval by an administrator", () => {
  it("is waited for; the use is counted once; the approved key joins, also after the invitation's end", async () => {
    const terms = testTerms({ name: "manual", uses: 2, opaquePorts: [], expiresAtMs: Date.now() + 3000 });
    const { joinString, id } = await invite("manual", { terms, admission: { approval: "Manual" } });
    const key = generateKey();
    for (let asked = 0; asked < 3; asked++)
      await expect(joinAs(joinString, "manual-1", { key })).rejects.toMatchObject({ code: "approval-pending" });
    const secret = await site.admin.get(SECRETS, "linkerd", `mesh-agent-invitation-${id}`);
    const state = JSON.parse(
      Buffer.from((secret as never as { data: { state: string } }).data.state, "base64").toString(),
    );
    expect(state.uses).toHaveLength(1);
    const [waiting, ...more] = await waitingHosts(approver, "shop");
    expect(more).toEqual([]);
    expect(waiting).toMatchObject({ group: "manual", hostname: "manual-1", address: "127.0.0.1", invitation: id });
    await until(() => Date.now() > terms.expiresAtMs, "the invitation has ended");
    // Who was not there before comes too late.
    await expect(joinAs(joinString, "manual-2")).rejects.toMatchObject({ code: "invitation-expired" });
    const decided = await decide(approver, "shop", "manual", "Approve", ({ state: now }) => now === "Pending");
    expect(decided.map(({ name }) => name)).toEqual([waiting?.name]);
    expect(await waitingHosts(approver, "shop")).toEqual([]);
    // Another key of the same machine was not approved.
    await expect(joinAs(joinString, "manual-1", { key: generateKey() })).rejects.toMatchObject({
      code: "invitation-expired",
    });
    const { configuration } = await joinAs(joinString, "manual-1", { key });
    expect(configuration.workload.name).toBe(waiting?.name);
  });

  it("can be denied, and the denial taken back", async () => {
    const { joinString } = await invite("denied", { admission: { approval: "Manual" } });
    const key = generateKey();
    await expect(joinAs(joinString, "denied-1", { key })).rejects.toMatchObject({ code: "approval-pending" });
    await decide(approver, "shop", "denied", "Deny", () => true);
    await expect(joinAs(joinString, "denied-1", { key })).rejects.toMatchObject({ code: "approval-denied" });
    await decide(approver, "shop", "denied", "Approve", () => true);
    await expect(joinAs(joinString, "denied-1", { key })).resolves.toBeDefined();
  });

  it("is nothing that an inviter may give", async () => {
    const { joinString } = await invite("own", { admission: { approval: "Manual" } });
    await expect(joinAs(joinString, "own-1")).rejects.toMatchObject({ code: "approval-pending" });
    await expect(decide(inviter, "shop", "own", "Approve", () => true)).rejects.toMatchObject({ code: 403 });
  });
});

describe("a template that changes", () => {
  it("reaches hosts that are registered: labels at once, ports only while out of service", async () => {
    const { joinString } = await invite("rolling");
    const told: (readonly number[])[] = [];
    const names: string[] = [];
    for (const machine of ["rolling-1", "rolling-2"]) {
      const enrolment = await joinAs(joinString, machine);
      const host = attach(enrolment, machine, (ports) => told.push(ports));
      stops.push(() => host.stop());
      names.push(enrolment.configuration.workload.name);
    }
    const all = async () => Promise.all(names.map(async (name) => (await workload(name)) as ExternalWorkload));
    await until(async () => (await all()).every(isReady), "both Ready");
    // What a watcher sees: no change of ports while Ready, never two hosts out of service at once.
    const faults: string[] = [];
    const known = new Map<string, ExternalWorkload>();
    stops.push(
      site.admin.watch<ExternalWorkload>(EXTERNAL_WORKLOADS, "shop", (event) => {
        if (event.type === "SYNCED" || !names.includes(event.object.metadata.name)) return;
        const before = known.get(event.object.metadata.name);
        known.set(event.object.metadata.name, event.object);
        const ports = (object: ExternalWorkload) => JSON.stringify(object.spec?.ports);
        if (before !== undefined && ports(before) !== ports(event.object) && isReady(before))
          faults.push("ports changed while Ready");
        if (known.size === 2 && [...known.values()].every((object) => !isReady(object)))
          faults.push("both out of service");
      }),
    );
    await change("rolling", (spec) => ({
      ...spec,
      template: { ...spec.template, metadata: { labels: { app: "legacy-app", tier: "gold" } } },
    }));
    await until(async () => (await all()).every(({ metadata }) => metadata.labels?.["tier"] === "gold"), "labels");
    expect((await all()).every(isReady)).toBe(true);
    await change("rolling", (spec) => ({
      ...spec,
      template: {
        ...spec.template,
        metadata: { labels: { app: "legacy-app" } },
        ports: [{ name: "http", port: 8081 }],
      },
    }));
    await until(
      async () => (await all()).every((object) => isReady(object) && object.spec?.ports?.[0]?.port === 8081),
      "new ports, Ready",
    );
    expect((await all()).map(({ metadata }) => metadata.labels?.["tier"])).toEqual([undefined, undefined]);
    expect(faults).toEqual([]);
    await until(() => told.filter(([port]) => port === 8081).length >= 2, "hosts were told");
    await until(async () => (await group("rolling")).status?.outdated === 0, "reported");
  }, 60_000);

  it("cannot change whose identity the hosts have", async () => {
    await invite("fixed");
    const other = (spec: ExternalWorkloadGroup["spec"]) => ({
      ...spec,
      template: { ...spec.template, serviceAccountName: "other" },
    });
    await expect(change("fixed", other)).rejects.toMatchObject({ code: 422 });
  });
});

it("the enroller needs every right it has, and no other", async () => {
  // What happens seldom: sweeping, resolving a name, renewing the lease for groups.
  const own = site.as("linkerd", "mesh-agent-enroller");
  await invite("swept");
  await sweepInvitations(own, "linkerd", Date.now() + 8 * 86_400_000);
  await own.get({ group: "", version: "v1", plural: "services" }, "shop", "none");
  const leases = { group: "coordination.k8s.io", version: "v1", plural: "leases" };
  const lease = async () => await site.admin.get(leases, "linkerd", "mesh-agent-enroller-groups");
  const first = (await lease())?.metadata.resourceVersion;
  await until(async () => (await lease())?.metadata.resourceVersion !== first, "the lease was renewed");
  const hosts = await site.admin.list<ExternalWorkload>(EXTERNAL_WORKLOADS, "shop", "mesh-agent/group=made");
  expect(hosts).toEqual([]);
  const { joinString } = await invite("leaving");
  const enrolment = await joinAs(joinString, "leaving-1");
  const host = attach(enrolment, "leaving-1");
  await until(async () => {
    const found = await workload(enrolment.configuration.workload.name);
    return found !== undefined && isReady(found);
  }, "Ready");
  await host.leave(true);
  host.stop();
  await until(
    () => site.judged.some(({ access }) => access.resource === "leases" && access.verb === "delete"),
    "released",
  );

  const ours = site.judged.filter(({ user }) => user.username.endsWith(":mesh-agent-enroller"));
  const text = ({ access }: (typeof ours)[number]) => `${access.group}/${access.resource} ${access.verb}`;
  expect([...new Set(ours.filter(({ rule }) => rule === undefined).map(text))]).toEqual([]);
  const used = new Set(ours.map(text));
  const granted = new Set<string>();
  for (const plural of ["roles", "clusterroles"]) {
    const type = { group: "rbac.authorization.k8s.io", version: "v1", plural };
    const home = plural === "roles" ? "linkerd" : undefined;
    const role = (await site.admin.get(type, home, "mesh-agent-enroller")) as never as {
      rules: { apiGroups: string[]; resources: string[]; verbs: string[] }[];
    };
    for (const { apiGroups, resources, verbs } of role.rules)
      for (const verb of verbs) granted.add(`${apiGroups[0]}/${resources[0]} ${verb}`);
  }
  expect([...granted].filter((right) => !used.has(right))).toEqual([]);
}, 60_000);

describe("admission", () => {
  const EW = EXTERNAL_WORKLOADS;
  const object = (name: string, identity: string, serverName = "x.example", annotations = {}) =>
    ({
      apiVersion: "workload.linkerd.io/v1beta1",
      kind: "ExternalWorkload",
      metadata: { name, namespace: "shop", annotations },
      spec: { meshTLS: { identity, serverName }, workloadIPs: [{ ip: "192.0.2.7" }] },
    }) as ExternalWorkload;
  let tenant: KubernetesClient;

  beforeAll(async () => {
    tenant = site.as("shop", "tenant");
    const rules = [
      { apiGroups: ["workload.linkerd.io"], resources: ["externalworkloads"], verbs: ["*"] },
      { apiGroups: [""], resources: ["serviceaccounts"], resourceNames: ["mine"], verbs: ["impersonate"] },
    ];
    const api = "rbac.authorization.k8s.io/v1";
    await put(site.admin, { ...named(api, "Role", "tenant", "shop"), rules } as never);
    await bind(site, "Role", "tenant", "shop", "shop/tenant");
  });

  it.each([
    ["spiffe://cluster.local/ns/shop/sa/payments", "x.example"],
    ["spiffe://cluster.local/ns/linkerd/sa/linkerd-destination", "x.example"],
    ["payments.shop.serviceaccount.identity.linkerd.cluster.local", "x.example"],
    ["a.b.shop.serviceaccount.identity.linkerd.cluster.local", "x.example"],
    ["spiffe://cluster.local/ns/shop/sa/mine", "payments.shop.serviceaccount.identity.linkerd.cluster.local"],
  ])("refuses %s with %s to who may not be that account", async (identity, serverName) => {
    const attempt = tenant.create(EW, "shop", object("taken", identity, serverName));
    await expect(attempt).rejects.toMatchObject({ code: 403, message: expect.stringContaining("may not impersonate") });
  });

  it.each([
    ["spiffe://cluster.local/ns/shop/sa/mine", "mine.shop.serviceaccount.identity.linkerd.cluster.local"],
    ["spiffe://cluster.local/legacy/vm-1", "vm-1.example"],
  ])("lets %s pass, which is the tenant's own or nobody's", async (identity, serverName) => {
    await tenant.create(EW, "shop", object("own", identity, serverName));
    // Not theirs to become: not by a change either.
    const current = (await tenant.get<ExternalWorkload>(EW, "shop", "own")) as ExternalWorkload;
    const stolen = { ...current, spec: object("", "spiffe://cluster.local/ns/shop/sa/payments").spec } as never;
    await expect(tenant.update(EW, "shop", stolen)).rejects.toMatchObject({ code: 403 });
    await tenant.update(EW, "shop", { ...current, metadata: { ...current.metadata, labels: { a: "b" } } });
    await tenant.delete(EW, "shop", "own");
  });

  it("keeps what the enroller remembers of a host from everybody else", async () => {
    const mine = "spiffe://cluster.local/ns/shop/sa/mine";
    const forged = object("forged", mine, "x.example", { "mesh-agent/keys": "00" });
    await expect(tenant.create(EW, "shop", forged)).rejects.toMatchObject({ code: 403 });
    const { joinString } = await invite("kept");
    const { configuration } = await joinAs(joinString, "kept-1");
    const host = (await workload(configuration.workload.name)) as ExternalWorkload;
    const metadata = { ...host.metadata, annotations: { ...host.metadata.annotations, "mesh-agent/keys": "00" } };
    await expect(site.admin.update(EW, "shop", { ...host, metadata })).rejects.toMatchObject({ code: 403 });
  });

  it("lets an administrator revoke, which changes nothing of that", async () => {
    const { joinString } = await invite("revoked");
    const { configuration } = await joinAs(joinString, "revoked-1");
    const mesh = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };
    await expect(revokeHost(site.admin, mesh, configuration.workload, "stolen")).resolves.toBeDefined();
  });

  describe("of deletions", () => {
    const ready = async (name: string) => {
      const { joinString } = await invite(name);
      const enrolment = await joinAs(joinString, `${name}-1`);
      const host = attach(enrolment, `${name}-1`);
      stops.push(() => host.stop());
      const key = enrolment.configuration.workload;
      await until(async () => isReady((await workload(key.name)) as ExternalWorkload), "Ready");
      return { host, ...key };
    };

    it("lets nobody delete a host that is Ready, and says what to do", async () => {
      const { name } = await ready("used");
      for (const client of [site.admin, tenant])
        await expect(client.delete(EW, "shop", name)).rejects.toMatchObject({
          code: 403,
          message: expect.stringContaining("Run `mesh-agent down` on the host"),
        });
      expect(isReady((await workload(name)) as ExternalWorkload)).toBe(true);
      const mesh = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };
      await revokeHost(site.admin, mesh, { namespace: "shop", name }, "taken away");
      await until(async () => !isReady((await workload(name)) as ExternalWorkload), "not Ready");
      await tenant.delete(EW, "shop", name);
      expect(await workload(name)).toBeUndefined();
    });

    it("lets the host itself leave, and whoever takes the guard away", async () => {
      const leaver = await ready("leaver");
      await leaver.host.leave(true);
      expect(await workload(leaver.name)).toBeUndefined();

      const { name } = await ready("forced");
      const current = (await workload(name)) as ExternalWorkload;
      const annotations = { ...current.metadata.annotations, "mesh-agent/delete-while-ready": "true" };
      await site.admin.apply(
        EW,
        "shop",
        { ...named("workload.linkerd.io/v1beta1", "ExternalWorkload", name, "shop"), metadata: { name, annotations } },
        "kubectl",
      );
      // It stays when the enroller writes again.
      await until(async () => isReady((await workload(name)) as ExternalWorkload), "Ready still");
      await site.admin.delete(EW, "shop", name);
      expect(await workload(name)).toBeUndefined();
    });

    it("leaves workloads of others alone, and hosts that are not Ready", async () => {
      const static_ = object("static", "spiffe://cluster.local/legacy/vm-1");
      await site.admin.create(EW, "shop", static_);
      const lastTransitionTime = new Date().toISOString();
      const conditions = [
        { type: "Ready", status: "True", lastTransitionTime, reason: "Static", message: "" },
      ] as const;
      const { spec: _spec, ...bare } = static_;
      await site.admin.apply(EW, "shop", { ...bare, status: { conditions } } as never, "admin", "status");
      expect(isReady((await workload("static")) as ExternalWorkload)).toBe(true);
      await tenant.delete(EW, "shop", "static");
      const { configuration } = await joinAs((await invite("unborn")).joinString, "unborn-1");
      await tenant.delete(EW, "shop", configuration.workload.name);
    });
  });

  it("lets nobody invite into a namespace where he holds no such right", async () => {
    site.store.put({ group: "", version: "v1", plural: "namespaces" }, named("v1", "Namespace", "bank"));
    const terms = testTerms({ namespace: "bank", name: "vault", opaquePorts: [] });
    await createInvitation(site.admin, { namespace: "linkerd", terms, enrollers: ["192.0.2.1:4145"] });
    const { newInvitation } = await import("../../../src/bootstrap/enroller/index.ts");
    const { uses, from, expiresAtMs } = terms;
    const made = newInvitation({ format: 2, namespace: "bank", name: "vault", uses, from, expiresAtMs }, "linkerd");
    await expect(inviter.create(SECRETS, "linkerd", made.object)).rejects.toMatchObject({
      code: 403,
      message: expect.stringContaining("the verb invite"),
    });
    // Nor by an annotation that says one thing and terms that say another: admission lets it pass, the enroller does not.
    const annotations = { "mesh-agent/for": "shop/made" };
    const lying = { ...made.object, metadata: { ...made.object.metadata, annotations } };
    await inviter.create(SECRETS, "linkerd", lying);
    const { redeem } = await import("../../../src/bootstrap/enroller/index.ts");
    const attempt = {
      id: made.id,
      secret: made.secret,
      key: "k",
      machine: "m",
      address: "127.0.0.1",
      wallMs: Date.now(),
    };
    await expect(redeem(site.admin, "linkerd", attempt)).rejects.toMatchObject({ code: "try-again" });
  });
});

it("a namespace that ends takes hosts that are Ready along", async () => {
  const { joinString } = await invite("doomed");
  const enrolment = await joinAs(joinString, "doomed-1");
  const host = attach(enrolment, "doomed-1");
  stops.push(() => host.stop());
  const { name } = enrolment.configuration.workload;
  await until(async () => isReady((await workload(name)) as ExternalWorkload), "Ready");
  await site.admin.delete({ group: "", version: "v1", plural: "namespaces" }, undefined, "shop");
  await until(async () => (await workload(name)) === undefined, "gone");
  await until(() => host.state.kind === "ended", "the host is told");
});
