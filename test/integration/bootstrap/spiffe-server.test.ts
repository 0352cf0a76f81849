import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials, Metadata, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openSockets, type SpiffeSockets } from "../../../src/agent/spiffe/index.ts";
import { realScheduler, silentLog } from "../../../src/bootstrap/control/index.ts";
import { WorkloadApiIdentity } from "../../../src/bootstrap/identity/index.ts";
import { Authority } from "../../../src/lab/pki.ts";
import { SpiffeWorkloadAPI } from "../../../src/proto/gen/spiffe/workload_pb.ts";
import { grpcService } from "../../../src/proto/grpc.ts";
import type { WorkloadIdentity } from "../../../src/proxy/core/identity.ts";
import { identityFrom } from "../../support/hops.ts";
import { until } from "../../support/until.ts";

const METHODS = grpcService(SpiffeWorkloadAPI);
const NAME = "app.shop.serviceaccount.identity.linkerd.cluster.local";
const ID = "spiffe://cluster.local/ns/shop/sa/app";

let directory: string;
let authority: Authority;
let current: WorkloadIdentity | undefined;
let tell: (identity: WorkloadIdentity) => void;
let sockets: SpiffeSockets | undefined;
const stops: (() => void)[] = [];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  authority = await Authority.root("root.linkerd.cluster.local");
  current = await identityFrom(authority, NAME, ID);
});

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
  sockets?.close();
  rmSync(directory, { recursive: true });
});

async function open(users: readonly string[], units: readonly string[] = []) {
  const listeners = new Set<(identity: WorkloadIdentity) => void>();
  tell = (identity) => {
    current = identity;
    for (const listener of listeners) listener(identity);
  };
  const identity = {
    current: () => current,
    subscribe: (listener: (identity: WorkloadIdentity) => void) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const passwd = join(directory, "passwd");
  writeFileSync(passwd, `db:x:${process.getuid?.()}:1::/:/bin/sh\n`);
  const log = { error() {}, warn() {}, info() {}, debug() {} };
  sockets = await openSockets({ directory: join(directory, "spiffe"), users, units, identity, log, passwd });
  return join(directory, "spiffe", "agent.sock");
}

const marked = () => {
  const metadata = new Metadata();
  metadata.set("workload.spiffe.io", "true");
  return metadata;
};

/** The first answer of a call, or the code it ended with. */
function ask(socket: string, method: (typeof METHODS)[keyof typeof METHODS], metadata = marked()): Promise<unknown> {
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  stops.push(() => client.close());
  const { path } = method;
  const encode = method.requestSerialize as (value: object) => Buffer;
  const decode = method.responseDeserialize as (bytes: Buffer) => unknown;
  return new Promise((resolve) => {
    if (!method.responseStream) {
      client.makeUnaryRequest(path, encode, decode, {}, metadata, (error, value) => resolve(error?.code ?? value));
      return;
    }
    const stream = client.makeServerStreamRequest(path, encode, decode, {}, metadata);
    stream.once("data", (value) => {
      stream.cancel();
      resolve(value);
    });
    stream.on("error", (error: Error & { code?: number }) => resolve(error.code));
  });
}

it("gives the host's identity, and every renewal of it, to a source that follows it", async () => {
  const socket = await open(["db"]);
  const source = new WorkloadApiIdentity({ socket, scheduler: realScheduler, log: silentLog });
  stops.push(() => source.stop());
  source.start();
  const got = await until(() => source.current(), "an identity");
  const given = current as WorkloadIdentity;
  expect(got).toMatchObject({ name: NAME, uri: ID, serverName: NAME, generation: 1 });
  expect(got.certificatePem.replace(/\s/g, "")).toBe(given.certificatePem.replace(/\s/g, ""));
  expect(got.keyPem.trim()).toBe(given.keyPem.trim());
  const next = await identityFrom(authority, NAME, ID);
  tell({ ...next, generation: 2 });
  await until(() => source.current()?.keyPem.trim() === next.keyPem.trim(), "the next one");
});

it("gives the trust anchors by trust domain, and no JWT", async () => {
  const socket = await open(["db"]);
  const { bundles } = (await ask(socket, METHODS.fetchX509Bundles)) as { bundles: Record<string, Uint8Array> };
  expect(Object.keys(bundles)).toEqual(["spiffe://cluster.local"]);
  expect(Buffer.from(bundles["spiffe://cluster.local"] ?? []).equals(authority.certificate.raw)).toBe(true);
  for (const method of [METHODS.fetchJWTSVID, METHODS.fetchJWTBundles, METHODS.validateJWTSVID])
    expect(await ask(socket, method)).toBe(status.UNIMPLEMENTED);
});

it("refuses a call without the security header", async () => {
  const socket = await open(["db"]);
  for (const method of Object.values(METHODS))
    expect(await ask(socket, method, new Metadata())).toBe(status.INVALID_ARGUMENT);
});

it("says nothing while there is no identity, and denies one that is no SPIFFE ID", async () => {
  const without = { ...(current as WorkloadIdentity), uri: undefined };
  current = undefined;
  const socket = await open(["db"]);
  const waiting = ask(socket, METHODS.fetchX509SVID);
  await new Promise((resolve) => setTimeout(resolve, 100));
  tell(without);
  expect(await waiting).toBe(status.PERMISSION_DENIED);
});

it("gives a unit a socket that nobody reaches who does not have it bound into its namespace", async () => {
  await open([], ["postgresql@main.service"]);
  const units = join(directory, "spiffe", "units");
  expect(statSync(units).mode & 0o777).toBe(0o700);
  expect(statSync(join(directory, "spiffe"), { throwIfNoEntry: false })?.mode).toBeDefined();
  expect(statSync(join(directory, "spiffe", "agent.sock"), { throwIfNoEntry: false })).toBeUndefined();
  const answer = await ask(join(units, "postgresql@main.service", "agent.sock"), METHODS.fetchX509SVID);
  expect(answer).toMatchObject({ svids: [{ spiffeId: ID }] });
  for (const bad of ["../../etc.service", "a/b.service", "ssh.socket", ""])
    await expect(open([], [bad])).rejects.toThrow("no name of a service unit");
});

it("replaces the socket of an older process, which then takes only its own away", async () => {
  const socket = await open(["db"]);
  const old = sockets;
  const again = await open(["db"]);
  old?.close();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(again).toBe(socket);
  expect(await ask(again, METHODS.fetchX509SVID)).toMatchObject({ svids: [{ spiffeId: ID }] });
});
