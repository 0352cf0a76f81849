/** What a host makes of an enroller that was taken over, or is broken, and signs what it likes: nothing. */
import "reflect-metadata";
import type { ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { PemConverter, Pkcs10CertificateRequest } from "@peculiar/x509";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  BootstrapError,
  enrollerName,
  identityName,
  identityUri,
  MeshGrpcServer,
  pemToDer,
  realScheduler,
  silentLog,
} from "../../../src/bootstrap/control/index.ts";
import { EnrolledIdentity } from "../../../src/bootstrap/identity/index.ts";
import {
  Enroller,
  type RenewRequest,
  type RenewResponse,
} from "../../../src/proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import { grpcService } from "../../../src/proto/grpc.ts";
import type { WorkloadIdentity } from "../../../src/proxy/core/identity.ts";
import { type TestCertificateOptions, type TestPair, testCertificate, testMeshCa } from "../../support/test-ca.ts";

const MESH = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };
const WORKLOAD = { namespace: "shop", name: "vm", serviceAccount: "app" };
const DNS = identityName("app", "shop", MESH);
const URI = identityUri("app", "shop", MESH);
const SANS = [
  { type: "dns" as const, value: DNS },
  { type: "url" as const, value: URI },
];
const HOUR = 3_600_000;

interface Lie {
  /** Of the certificate for the key that was asked with. */
  readonly options?: TestCertificateOptions;
  readonly othersKey?: boolean;
  readonly chain?: (good: readonly Buffer[]) => readonly Buffer[] | Promise<readonly Buffer[]>;
  readonly roots?: readonly Buffer[];
}

let ca: { root: TestPair; issuer: TestPair };
let server: MeshGrpcServer;
let first: WorkloadIdentity;
let address: string;
let lie: Lie = {};
let asked = 0;

async function answer({ csr }: RenewRequest) {
  asked++;
  const { publicKey } = new Pkcs10CertificateRequest(new Uint8Array(csr));
  const theirs = lie.othersKey === true ? {} : { publicKey: await publicKey.export() };
  const day = { notBeforeMs: Date.now() - 60_000, notAfterMs: Date.now() + 24 * HOUR };
  const leaf = await testCertificate({ issuer: ca.issuer, sans: SANS, ...day, ...theirs, ...lie.options });
  const good = [pemToDer(leaf.certificatePem), pemToDer(ca.issuer.certificatePem)];
  const roots = [...(lie.roots ?? [pemToDer(ca.root.certificatePem)])];
  return { certificate: { chain: [...((await lie.chain?.(good)) ?? good)] }, trustAnchors: { roots } };
}

beforeAll(async () => {
  ca = await testMeshCa();
  const own = await testCertificate({ issuer: ca.issuer, sans: [{ type: "dns", value: enrollerName(MESH) }] });
  const anchors = [ca.root.certificatePem];
  server = new MeshGrpcServer({
    identity: {
      keyPem: own.keyPem,
      certificatePem: own.certificatePem + ca.issuer.certificatePem,
      trustAnchorsPem: anchors,
    },
    services: (grpc) => {
      const { renew } = grpcService(Enroller);
      grpc.addService(
        { renew },
        {
          renew: (call: ServerUnaryCall<RenewRequest, RenewResponse>, done: sendUnaryData<RenewResponse>) =>
            void answer(call.request).then(
              (said) => done(null, said as never),
              (error: unknown) => done(error as Error),
            ),
        },
      );
    },
  });
  address = `127.0.0.1:${(await server.listen({ host: "127.0.0.1", port: 0 })).port}`;
  const leaf = await testCertificate({ issuer: ca.issuer, sans: SANS });
  first = {
    generation: 1,
    name: DNS,
    uri: URI,
    serverName: DNS,
    keyPem: leaf.keyPem,
    certificatePem: leaf.certificatePem + ca.issuer.certificatePem,
    trustAnchorsPem: anchors,
    notBeforeMs: Date.now() - HOUR,
    notAfterMs: Date.now() + HOUR,
  };
});

afterAll(() => server.close(0));

function host(): EnrolledIdentity {
  return new EnrolledIdentity({
    identity: first,
    workload: WORKLOAD,
    mesh: MESH,
    enrollers: () => [address],
    machine: "",
    version: "0.1.0",
    scheduler: realScheduler,
    log: silentLog,
    save: () => {
      throw new Error("nothing of this is to be kept");
    },
  });
}

const foreign = async () => (await testMeshCa()).issuer;
const lies: readonly (readonly [string, () => Lie | Promise<Lie>, string])[] = [
  ["for somebody else's key", () => ({ othersKey: true }), "another key"],
  [
    "for another name",
    () => ({ options: { sans: [{ type: "dns", value: "web.shop" }, SANS[1] as never] } }),
    "is not for",
  ],
  ["that has ended", () => ({ options: { notAfterMs: Date.now() - 1000 } }), "has ended"],
  ["that is not valid yet", () => ({ options: { notBeforeMs: Date.now() + HOUR } }), "not valid before"],
  ["of no life", () => ({ options: { notBeforeMs: Date.now() - 1000, notAfterMs: Date.now() - 1000 } }), "has ended"],
  ["for ten years", () => ({ options: { notAfterMs: Date.now() + 87_600 * HOUR } }), "30 days"],
  [
    "in broken DER",
    () => ({ chain: ([leaf, ...rest]) => [(leaf as Buffer).subarray(0, -9), ...rest] }),
    "cannot be read",
  ],
  [
    "with a stranger's intermediate beside the right one",
    async () => {
      const other = pemToDer((await foreign()).certificatePem);
      return { chain: (good) => [...good, other] };
    },
    "does not chain",
  ],
  ["under roots that are none", () => ({ roots: [Buffer.from("root")] }), "cannot be read"],
];

it.each(lies)("a certificate %s is refused, and the one that there is kept", async (_what, made, words) => {
  lie = await made();
  const source = host();
  const before = asked;
  const failure = await source.renewNow().then(
    () => undefined,
    (error: unknown) => error,
  );
  source.stop();
  expect(asked).toBe(before + 1);
  expect(failure).toBeInstanceOf(BootstrapError);
  expect(String(failure)).toContain(words);
  expect(source.current()).toBe(first);
});

it("the truth is taken", async () => {
  lie = {};
  const kept: WorkloadIdentity[] = [];
  const source = new EnrolledIdentity({
    ...{ identity: first, workload: WORKLOAD, mesh: MESH, enrollers: () => [address], machine: "", version: "0.1.0" },
    ...{ scheduler: realScheduler, log: silentLog, save: (next: WorkloadIdentity) => void kept.push(next) },
  });
  await source.renewNow();
  source.stop();
  expect(source.current()).toMatchObject({ generation: 2, name: DNS, uri: URI });
  expect(source.current()?.keyPem).not.toBe(first.keyPem);
  expect(PemConverter.decode(source.current()?.certificatePem ?? "")).toHaveLength(2);
  expect(kept).toHaveLength(1);
});
