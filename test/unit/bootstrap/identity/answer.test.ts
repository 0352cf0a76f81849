import { create } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, it } from "vitest";
import { identityName, identityUri, pemToDer } from "../../../../src/bootstrap/control/index.ts";
import { acceptAnchors, acceptAnswer, importKey } from "../../../../src/bootstrap/identity/index.ts";
import { CertificateSchema, TrustAnchorsSchema } from "../../../../src/proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import { type TestCertificateOptions, type TestPair, testCertificate, testMeshCa } from "../../../support/test-ca.ts";

const MESH = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };
const WORKLOAD = { namespace: "shop", name: "vm", serviceAccount: "app" };
const DNS = identityName("app", "shop", MESH);
const URI = identityUri("app", "shop", MESH);
const SANS: NonNullable<TestCertificateOptions["sans"]> = [
  { type: "dns", value: DNS },
  { type: "url", value: URI },
];

const HOUR = 3_600_000;
let ca: { root: TestPair; issuer: TestPair };
beforeAll(async () => {
  ca = await testMeshCa();
});

interface Spoilt {
  readonly options?: TestCertificateOptions;
  readonly chain?: (good: readonly Buffer[]) => Buffer[];
  readonly roots?: () => Promise<Buffer[]>;
  readonly anothersKey?: boolean;
}

async function judge(spoilt: Spoilt = {}) {
  const day = { notBeforeMs: Date.now() - 60_000, notAfterMs: Date.now() + 24 * HOUR };
  const leaf = await testCertificate({ issuer: ca.issuer, sans: SANS, ...day, ...spoilt.options });
  const good = [pemToDer(leaf.certificatePem), pemToDer(ca.issuer.certificatePem)];
  const roots = (await spoilt.roots?.()) ?? [pemToDer(ca.root.certificatePem)];
  const key = importKey(spoilt.anothersKey === true ? (await testCertificate()).keyPem : leaf.keyPem);
  if (key === undefined) throw new Error("no key");
  return acceptAnswer(
    create(CertificateSchema, { chain: spoilt.chain?.(good) ?? good }),
    create(TrustAnchorsSchema, { roots }),
    { key, workload: WORKLOAD, mesh: MESH, wallMs: Date.now(), generation: 7 },
  );
}

describe("an enroller's answer", () => {
  it("becomes an identity when it is ours in every respect", async () => {
    const identity = await judge();
    expect(identity).toMatchObject({ generation: 7, name: DNS, uri: URI, serverName: DNS });
    expect(identity.trustAnchorsPem).toHaveLength(1);
    expect(identity.keyPem).toContain("PRIVATE KEY");
  });

  const cases: readonly (readonly [string, Spoilt, string])[] = [
    ["for somebody else's key", { anothersKey: true }, "another key"],
    ["for another name", { options: { sans: [{ type: "dns", value: "x.y" }, SANS[1] as never] } }, "is not for"],
    [
      "for another URI",
      { options: { sans: [SANS[0] as never, { type: "url", value: "spiffe://td/x" }] } },
      "is not for",
    ],
    ["with the names the wrong way round", { options: { sans: [...SANS].reverse() } }, "is not for"],
    ["with one name too many", { options: { sans: [...SANS, { type: "dns", value: "more" }] } }, "is not for"],
    ["with one name too few", { options: { sans: SANS.slice(0, 1) } }, "is not for"],
    ["that has ended", { options: { notAfterMs: Date.now() - 1000 } }, "has ended"],
    ["with no life to speak of", { options: { notAfterMs: Date.now() + 5000 } }, "has ended"],
    ["for ten years", { options: { notAfterMs: Date.now() + 3650 * 24 * HOUR } }, "30 days"],
    ["that is a CA", { options: { ca: true } }, "CA"],
    ["in broken DER", { chain: () => [Buffer.from("garbage")] }, "cannot be read"],
    ["without a chain", { chain: () => [] }, "0 certificates"],
    ["without its intermediate", { chain: (good) => good.slice(0, 1) }, "does not chain"],
    ["with extra intermediates", { chain: (good) => [...good, good[0] as Buffer] }, "does not chain"],
    ["with a hundred certificates", { chain: (good) => Array.from({ length: 100 }, () => good[0] as Buffer) }, "100"],
    [
      "under foreign roots",
      { roots: async () => [pemToDer((await testMeshCa()).root.certificatePem)] },
      "does not chain",
    ],
    ["without roots", { roots: () => Promise.resolve([]) }, "0 certificates"],
  ];
  it.each(cases)("is refused %s", async (_what, spoilt, words) => {
    await expect(judge(spoilt)).rejects.toMatchObject({ code: "answer-refused" });
    await expect(judge(spoilt)).rejects.toThrow(words);
  });

  it("is taken by a host whose clock is up to five minutes behind", async () => {
    await judge({ options: { notBeforeMs: Date.now() + 4 * 60_000 } });
  });

  it("not yet valid is a matter of clocks", async () => {
    await expect(judge({ options: { notBeforeMs: Date.now() + HOUR } })).rejects.toMatchObject({ code: "clock-skew" });
  });
});

it("takes new roots only if all of them can be read", () => {
  const root = pemToDer(ca.root.certificatePem);
  expect(acceptAnchors(create(TrustAnchorsSchema, { roots: [root] }))).toHaveLength(1);
  expect(acceptAnchors(create(TrustAnchorsSchema, { roots: [root, Buffer.from("x")] }))).toBeUndefined();
  expect(acceptAnchors(create(TrustAnchorsSchema, { roots: [] }))).toBeUndefined();
});
