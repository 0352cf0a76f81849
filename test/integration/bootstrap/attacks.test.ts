/** What somebody tries who has no identity: a stolen string at most. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { decodeJoinString, type JoinString } from "../../../src/bootstrap/control/index.ts";
import { EXTERNAL_WORKLOADS, type ExternalWorkload } from "../../../src/bootstrap/enroller/index.ts";
import { certificationRequest, enrol, generateKey } from "../../../src/bootstrap/identity/index.ts";
import { BAD_REQUESTS } from "../../support/certification-requests.ts";
import { EnrollerSite, factsOf, machineOf, VERSION } from "../../support/enroller-site.ts";
import { workloadOf } from "../../support/mesh-kube.ts";
import { testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

let site: EnrollerSite;

beforeEach(async () => {
  site = await EnrollerSite.start();
});
afterEach(() => site.stop());

/** One raw Enroll call. @returns `enrolled`, or the code of the refusal. */
async function attempt(join: JoinString, csr: Uint8Array, machine = "vm-1", hostname = machine): Promise<string> {
  return site
    .client()
    .enroll({
      version: VERSION,
      invitationId: join.invitationId,
      secret: join.secret,
      csr,
      host: factsOf(machine, hostname),
    })
    .then(
      () => "enrolled",
      (error: { code: string }) => error.code,
    );
}

const request = () => certificationRequest(generateKey());
const workloads = () => site.kube.list<ExternalWorkload>(EXTERNAL_WORKLOADS, undefined);

describe("a stolen string is worth nothing, and its use is on record", () => {
  it.each([
    ["after its uses", {}, true, "invitation-spent"],
    ["after its time", { expiresAtMs: Date.now() - 1 }, false, "invitation-expired"],
    ["from outside its networks", { from: ["10.0.0.0/8", "2001:db8::/32"] }, false, "invitation-network"],
  ])("%s", async (_when, terms, used, code) => {
    const text = await site.invite(terms);
    if (used) await site.enrol(text);
    const before = await workloads();
    expect(await attempt(decodeJoinString(text), request(), "thief")).toBe(code);
    expect(await workloads()).toEqual(before);
    const { invitationId: invitation } = decodeJoinString(text);
    expect(site.refused).toMatchObject([{ code, address: "127.0.0.1", identity: "nobody", invitation }]);
  });

  it("with another secret, or another id: nobody learns which of them is wrong", async () => {
    const join = decodeJoinString(await site.invite());
    const messages = new Set<string>();
    for (const wrong of [
      { ...join, secret: Buffer.alloc(32, 7) },
      { ...join, secret: Buffer.alloc(0) },
      { ...join, invitationId: "0123456789" },
      { ...join, invitationId: "../../secrets/x" },
    ]) {
      expect(await attempt(wrong, request())).toBe("invitation-wrong");
      messages.add(String(site.refused.at(-1)?.["why"]));
    }
    expect(messages.size).toBe(1);
  });
});

describe("a replayed Enroll request", () => {
  it("at the same moment spends one use, for one workload", async () => {
    const join = decodeJoinString(await site.invite({ uses: 2 }));
    const csr = request();
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => attempt(join, csr)));
    expect(outcomes).toEqual(Array(8).fill("enrolled"));
    expect(await workloads()).toHaveLength(1);
    // The second use is still there, and no third.
    expect(await attempt(join, request(), "vm-2")).toBe("enrolled");
    expect(await attempt(join, request(), "vm-3")).toBe("invitation-spent");
  });

  it("for another machine is another host, and costs another use", async () => {
    const join = decodeJoinString(await site.invite());
    const csr = request();
    expect(await attempt(join, csr, "vm-1")).toBe("enrolled");
    expect(await attempt(join, csr, "vm-2")).toBe("invitation-spent");
    expect(await workloads()).toHaveLength(1);
  });

  it("does not take a sibling's workload over, whatever uses are left", async () => {
    const join = decodeJoinString(await site.invite({ uses: 3 }));
    const victim = await site.enrol(await site.invite(), "victim");
    site.attach(victim, "victim");
    const { name } = victim.configuration.workload;
    await until(async () => (await site.readiness(name)) === "True Attached", "the victim is Ready");
    const csr = request();
    expect(await attempt(join, csr, "thief")).toBe("enrolled");
    expect(await attempt(join, csr, "victim")).toBe("clone");
    const keys = (await workloadOf(site.kube, name))?.metadata.annotations?.["mesh-agent/keys"];
    expect(keys?.split(",")).toHaveLength(1);
    expect(site.refused.map(({ code }) => code)).toEqual(["clone"]);
  });

  it("after its host has attached is refused", async () => {
    const join = decodeJoinString(await site.invite());
    const key = generateKey();
    const ask = () =>
      enrol({ join, machine: machineOf("vm-1"), hostname: "vm-1", version: VERSION, wallMs: Date.now, key });
    // `enrol` overwrites the secret that it has spent.
    const secret = Buffer.from(join.secret);
    site.attach(await ask());
    await until(
      async () => (await workloads()).some(({ status }) => status?.conditions?.[0]?.status === "True"),
      "Ready",
    );
    secret.copy(join.secret);
    expect(await attempt(join, certificationRequest(key))).toBe("clone");
  });
});

describe("a certification request with", () => {
  it.each(BAD_REQUESTS)("%s is refused and put on record", async (_what, csr, why) => {
    const join = decodeJoinString(await site.invite());
    expect(await attempt(join, await csr())).toBe("request-refused");
    expect(site.refused).toMatchObject([
      { code: "request-refused", why: expect.stringContaining(why), address: "127.0.0.1", identity: "nobody" },
    ]);
    expect(await attempt(join, request())).toBe("enrolled");
  });

  it("1 MiB ends before anybody reads it, and is on record", async () => {
    const join = decodeJoinString(await site.invite());
    expect(await attempt(join, Buffer.alloc(1024 * 1024, 0x30))).toBe("rate-limited");
    await until(() => site.refused.length > 0, "the record");
    expect(site.refused).toMatchObject([
      { call: "/meshagent.enroll.v1.Enroller/Enroll", why: expect.stringContaining("larger than max") },
    ]);
  });
});

it("a host has no say in its name, its labels or its ports", async () => {
  const text = await site.invite();
  const hostname = 'web","labels":{"app":"web"}\r\nports: [22]';
  expect(await attempt(decodeJoinString(text), request(), "vm-1", hostname)).toBe("enrolled");
  const [made] = await workloads();
  expect(made?.metadata.name).toMatch(/^legacy-app-[0-9a-f]{8}$/);
  expect(made?.metadata.labels).toEqual({ app: "legacy-app", "mesh-agent/managed": "true" });
  expect(made?.spec?.ports?.map(({ port }) => port)).toEqual([8080, 4191]);
  expect(JSON.stringify(made)).not.toContain("ports: [22]");
});

it("a tampered pin ends before the secret is sent", async () => {
  const other = await testMeshCa();
  const join = decodeJoinString(await site.invite());
  for (const pins of [[Buffer.alloc(32)], [Buffer.from(other.root.certificate.rawData).subarray(0, 32)]]) {
    site.kube.writes.length = 0;
    const tampered = { ...join, pins };
    await expect(
      enrol({ join: tampered, machine: machineOf("x"), hostname: "x", version: VERSION, wallMs: Date.now }),
    ).rejects.toMatchObject({ code: "pin-mismatch", exitCode: 77 });
    expect(site.kube.writes).toEqual([]);
  }
  // Nothing was asked of the enroller: the invitation is as it was.
  expect(site.refused).toEqual([]);
  expect(await attempt(join, request())).toBe("enrolled");
});

it("a flood from one source meets the limit, and the record stays short", async () => {
  const join = decodeJoinString(await site.invite());
  const client = site.client();
  const host = factsOf("vm-1");
  const one = () =>
    client
      .enroll({
        version: VERSION,
        invitationId: join.invitationId,
        secret: Buffer.alloc(32),
        csr: Buffer.alloc(0),
        host,
      })
      .then(
        () => "enrolled",
        (error: { code: string }) => error.code,
      );
  const outcomes: string[] = [];
  for (let round = 0; round < 10; round++) {
    outcomes.push(...(await Promise.all(Array.from({ length: 30 }, one))));
  }
  expect(outcomes.filter((code) => code === "rate-limited").length).toBeGreaterThan(200);
  expect(outcomes).not.toContain("enrolled");
  expect(site.refused.length).toBeLessThanOrEqual(22);
});

it("renewal and names are for those who prove an identity", async () => {
  const client = site.client();
  const renewal = client.renew({
    version: VERSION,
    csr: request(),
    namespace: "shop",
    name: "legacy-app",
    machine: "",
  });
  await expect(renewal).rejects.toMatchObject({ code: "no-identity" });
  await expect(client.resolve({ name: "web.shop.svc.cluster.local" })).rejects.toMatchObject({ code: "no-identity" });
  expect(site.refused.map(({ code }) => code)).toEqual(["no-identity", "no-identity"]);
});
