import { createPrivateKey } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server, ServerCredentials, type ServerWritableStream } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, it } from "vitest";
import { pemToDer, realScheduler, silentLog } from "../../../src/bootstrap/control/index.ts";
import { WorkloadApiIdentity } from "../../../src/bootstrap/identity/index.ts";
import { SpiffeWorkloadAPI, type X509SVIDRequest } from "../../../src/proto/gen/spiffe/workload_pb.ts";
import { grpcService } from "../../../src/proto/grpc.ts";
import { type TestCertificateOptions, testCertificate, testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

const ID = "spiffe://td/ns/shop/sa/app";
type Sans = NonNullable<TestCertificateOptions["sans"]>;

let directory: string;
let server: Server;
let push: (answer: unknown) => void;
let header: unknown;
let source: WorkloadApiIdentity | undefined;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  server = new Server();
  const streams = new Set<ServerWritableStream<X509SVIDRequest, unknown>>();
  let last: unknown;
  push = (answer) => {
    last = answer;
    for (const stream of streams) stream.write(answer);
  };
  server.addService(grpcService(SpiffeWorkloadAPI), {
    fetchX509SVID: (call: ServerWritableStream<X509SVIDRequest, unknown>) => {
      header = call.metadata.get("workload.spiffe.io")[0];
      streams.add(call);
      if (last !== undefined) call.write(last);
    },
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${join(directory, "agent.sock")}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
});

afterEach(() => {
  source?.stop();
  server.forceShutdown();
  rmSync(directory, { recursive: true });
});

async function svid(sans: Sans = [{ type: "url", value: ID }], spiffeId = ID) {
  const ca = await testMeshCa();
  const leaf = await testCertificate({ issuer: ca.issuer, sans });
  return {
    spiffeId,
    x509Svid: Buffer.concat([pemToDer(leaf.certificatePem), pemToDer(ca.issuer.certificatePem)]),
    x509SvidKey: createPrivateKey(leaf.keyPem).export({ type: "pkcs8", format: "der" }),
    bundle: pemToDer(ca.root.certificatePem),
  };
}

function listen(options: { spiffeId?: string; serverName?: string; failed?: () => void } = {}): WorkloadApiIdentity {
  source = new WorkloadApiIdentity({
    socket: join(directory, "agent.sock"),
    scheduler: realScheduler,
    log: silentLog,
    ...options,
  });
  source.start();
  return source;
}

it("takes the identity that the agent gives, and every later one", async () => {
  push({ svids: [await svid()] });
  const identity = listen({ serverName: "app.shop" });
  await until(() => identity.current(), "the first answer");
  expect(header).toBe("true");
  expect(identity.current()).toMatchObject({ generation: 1, name: ID, uri: ID, serverName: "app.shop" });
  expect(identity.current()?.certificatePem.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  const seen: number[] = [];
  identity.subscribe(({ generation }) => seen.push(generation));
  push({
    svids: [
      await svid([
        { type: "dns", value: "dns.shop" },
        { type: "url", value: ID },
      ]),
    ],
  });
  await until(() => seen.length > 0, "the next answer");
  expect(identity.current()).toMatchObject({ generation: 2, name: "dns.shop", serverName: "app.shop" });
});

it("takes the one it is told to take", async () => {
  const wanted = "spiffe://td/wanted";
  push({ svids: [await svid(), await svid([{ type: "url", value: wanted }], wanted)] });
  const identity = listen({ spiffeId: wanted, serverName: "x.y" });
  expect((await until(() => identity.current(), "an answer")).uri).toBe(wanted);
});

it("keeps the old one when a new one cannot be used", async () => {
  push({ svids: [await svid()] });
  let failed = 0;
  const identity = listen({ serverName: "x.y", failed: () => failed++ });
  await until(() => identity.current(), "an answer");
  const good = await svid();
  const other = await svid();
  for (const bad of [
    { ...good, x509SvidKey: other.x509SvidKey },
    { ...good, x509Svid: Buffer.from("garbage") },
    { ...good, x509Svid: good.x509Svid.subarray(0, 200) },
    { ...good, bundle: Buffer.alloc(0) },
    { ...good, spiffeId: "spiffe://td/somebody-else" },
  ]) {
    push({ svids: [bad] });
  }
  push({ svids: [] });
  push({ svids: [good] });
  await until(() => identity.current()?.generation === 2, "the good one");
  expect(failed).toBe(6);
});
