import { afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { decodeJoinString, EnrollerClient, enrollerName, type Log } from "../../../src/bootstrap/control/index.ts";
import { type RunningEnroller, startEnroller } from "../../../src/bootstrap/enroller/index.ts";
import { MemoryKube } from "../../support/memory-kube.ts";
import { installMesh, invite, testTerms } from "../../support/mesh-kube.ts";
import { type TestPair, testMeshCa } from "../../support/test-ca.ts";

const MESH = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };

let ca: { root: TestPair; issuer: TestPair };
let kube: MemoryKube;
let enroller: RunningEnroller;
let client: EnrollerClient;
let audit: Readonly<Record<string, unknown>>[];

beforeAll(async () => {
  ca = await testMeshCa();
});

beforeEach(async () => {
  kube = new MemoryKube();
  await installMesh(kube, ca);
  audit = [];
  const keep: Log["info"] = (fields) => void (fields["audit"] !== undefined && audit.push(fields));
  enroller = await startEnroller({
    client: kube,
    listen: { host: "127.0.0.1", port: 0 },
    version: "0.1.0",
    captureNetworks: ["10.43.0.0/16"],
    log: { debug: () => {}, info: keep, warn: keep, error: keep },
  });
  const anchors = [ca.root.certificatePem];
  const options = { serverName: enrollerName(MESH), trustAnchorsPem: () => anchors };
  client = new EnrollerClient(`127.0.0.1:${enroller.address.port}`, options);
});

afterEach(async () => {
  client.close();
  await enroller.stop(0);
});

async function attempt(csr: Uint8Array): Promise<string> {
  const address = `127.0.0.1:${enroller.address.port}`;
  const join = decodeJoinString(await invite(kube, testTerms(), ca.root.certificatePem, address));
  const host = { $typeName: "meshagent.enroll.v1.HostFacts", machine: "ab".repeat(32), hostname: "x" } as const;
  return client
    .enroll({
      version: "0.1.0",
      invitationId: join.invitationId,
      secret: join.secret,
      csr,
      host: { ...host, wallMs: BigInt(Date.now()) },
    })
    .then(
      () => "enrolled",
      (error: { code: string }) => error.code,
    );
}

it.each([
  ["empty", Buffer.alloc(0)],
  ["garbage", Buffer.alloc(200, 0x5a)],
  ["a sequence without an end", Buffer.from("3084ffffffff3084ffffffff", "hex")],
  ["nested a thousand times", Buffer.alloc(4000, Buffer.from("3080", "hex"))],
  ["of 32 KiB", Buffer.alloc(32 * 1024, 0x30)],
])("a certification request that is %s is refused and put on record", async (_what, csr) => {
  expect(await attempt(csr)).toBe("request-refused");
  expect(audit).toMatchObject([
    { audit: "refused", code: "request-refused", address: "127.0.0.1", identity: "nobody" },
  ]);
});

it("a flood from one source meets the limit, and the record stays short", async () => {
  const outcomes: string[] = [];
  for (let round = 0; round < 10; round++) {
    outcomes.push(...(await Promise.all(Array.from({ length: 30 }, () => attempt(Buffer.alloc(0))))));
  }
  expect(outcomes.filter((code) => code === "rate-limited").length).toBeGreaterThan(200);
  expect(outcomes).not.toContain("enrolled");
  expect(audit.length).toBeLessThanOrEqual(20);
});

it("renewal and names are for those who prove an identity", async () => {
  const renewal = client.renew({ version: "0.1.0", csr: Buffer.alloc(0), namespace: "shop", name: "legacy-app" });
  await expect(renewal).rejects.toMatchObject({ code: "no-identity" });
  await expect(client.resolve({ name: "web.shop.svc.cluster.local" })).rejects.toMatchObject({ code: "no-identity" });
  expect(audit.map(({ code }) => code)).toEqual(["no-identity", "no-identity"]);
});
