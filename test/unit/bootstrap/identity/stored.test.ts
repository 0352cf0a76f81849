import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { silentLog } from "../../../../src/bootstrap/control/index.ts";
import {
  exportKey,
  FileIdentity,
  generateKey,
  loadMembership,
  type Store,
  type StoredMembership,
  saveMembership,
} from "../../../../src/bootstrap/identity/index.ts";
import type { WorkloadIdentity } from "../../../../src/proxy/core/identity.ts";
import { FakeScheduler } from "../../../support/fake-scheduler.ts";
import { testCertificate } from "../../../support/test-ca.ts";

class MemoryStore implements Store {
  readonly files = new Map<string, { data: Buffer; mode: number }>();
  read(name: string): Buffer | undefined {
    return this.files.get(name)?.data;
  }
  write(name: string, data: Buffer | string, mode: number): void {
    this.files.set(name, { data: Buffer.from(data), mode });
  }
}

async function membership(): Promise<StoredMembership> {
  const pair = await testCertificate({ sans: [{ type: "dns", value: "a.b" }] });
  return {
    identity: {
      generation: 1,
      name: "a.b",
      uri: undefined,
      serverName: "a.b",
      keyPem: pair.keyPem,
      certificatePem: pair.certificatePem,
      trustAnchorsPem: [pair.certificatePem],
      notBeforeMs: 0,
      notAfterMs: 1,
    },
    configuration: {
      workload: { namespace: "shop", name: "vm", serviceAccount: "app" },
    } as StoredMembership["configuration"],
    enrollers: ["enroll:4145"],
  };
}

describe("a stored membership", () => {
  it("comes back, from one file that only its owner may read", async () => {
    const store = new MemoryStore();
    const value = await membership();
    saveMembership(store, value);
    expect(loadMembership(store)).toEqual({ ...value, identity: { ...value.identity, uri: undefined } });
    expect([...store.files.values()].map(({ mode }) => mode)).toEqual([0o600]);
  });

  it("is ignored when it is missing, of another format, damaged, or its key is not its certificate's", async () => {
    const store = new MemoryStore();
    expect(loadMembership(store)).toBeUndefined();
    const value = await membership();
    for (const text of ["", "null", "{}", '{"format":1}', JSON.stringify({ format: 2, ...value }), "[1]"]) {
      store.write("membership.json", text, 0o600);
      expect(loadMembership(store)).toBeUndefined();
    }
    saveMembership(store, { ...value, identity: { ...value.identity, keyPem: exportKey(generateKey()) } });
    expect(loadMembership(store)).toBeUndefined();
  });
});

describe("an identity in files", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  async function put(name: string): Promise<void> {
    const pair = await testCertificate({
      sans: [
        { type: "dns", value: name },
        { type: "url", value: "spiffe://td/x" },
      ],
    });
    for (const [file, text] of [
      ["tls.key", pair.keyPem],
      ["tls.crt", pair.certificatePem],
      ["ca.crt", pair.certificatePem],
    ] as const) {
      writeFileSync(join(directory, `.${file}`), text);
      renameSync(join(directory, `.${file}`), join(directory, file));
    }
  }

  it("is read at start and again when it changed; a half-written one keeps the old", async () => {
    await put("one.example");
    const time = new FakeScheduler();
    const source = new FileIdentity({ directory, scheduler: time, log: silentLog });
    expect(source.current()).toMatchObject({ name: "one.example", uri: "spiffe://td/x", generation: 1 });
    const seen: WorkloadIdentity[] = [];
    source.subscribe((identity) => seen.push(identity));
    source.start();
    writeFileSync(join(directory, "tls.key"), exportKey(generateKey()));
    time.advance(30_000);
    expect(source.current().name).toBe("one.example");
    await put("two.example");
    time.advance(30_000);
    expect(seen.map(({ name, generation }) => [name, generation])).toEqual([["two.example", 2]]);
    source.stop();
    expect(time.armed).toBe(0);
  });

  it("says which file is wrong", async () => {
    await put("one.example");
    writeFileSync(join(directory, "tls.key"), "nothing");
    expect(() => new FileIdentity({ directory, scheduler: new FakeScheduler(), log: silentLog })).toThrow(
      /tls\.key holds no/,
    );
    rmSync(join(directory, "tls.key"));
    expect(() => new FileIdentity({ directory, scheduler: new FakeScheduler(), log: silentLog })).toThrow(
      /tls\.key cannot be read/,
    );
  });
});
