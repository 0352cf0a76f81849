import { createHash, X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Config, decodeConfig } from "../../../src/agent/config.ts";
import { membership } from "../../../src/agent/membership.ts";
import { openStore, type Store } from "../../../src/agent/store.ts";
import {
  certificatePin,
  encodeJoinString,
  realScheduler,
  type Scheduler,
  silentLog,
} from "../../../src/bootstrap/control/index.ts";
import {
  decide,
  GROUPS,
  groupFor,
  newInvitation,
  type RunningEnroller,
  SECRETS,
  startEnroller,
  waitingHosts,
} from "../../../src/bootstrap/enroller/index.ts";
import { importKey } from "../../../src/bootstrap/identity/index.ts";
import { MemoryKube } from "../../support/memory-kube.ts";
import { installMesh, invite, testTerms } from "../../support/mesh-kube.ts";
import { type TestPair, testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

let ca: { root: TestPair; issuer: TestPair };
let kube: MemoryKube;
let enroller: RunningEnroller;
let directory: string;
let joinFile: string;
let config: Config;
let store: Store;

beforeEach(async () => {
  ca = await testMeshCa();
  kube = new MemoryKube();
  await installMesh(kube, ca);
  enroller = await startEnroller({
    client: kube,
    listen: { host: "127.0.0.1", port: 0 },
    version: "0.1.0",
    captureNetworks: ["10.43.0.0/16"],
  });
  directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  joinFile = join(directory, "join");
  const machine = join(directory, "machine-id");
  writeFileSync(machine, createHash("md5").update(directory).digest("hex"));
  const state = join(directory, "state");
  config = decodeConfig(
    JSON.stringify({ identity: { joinFile, machineIdFile: machine }, state: { directory: state } }),
    "test",
  );
  store = openStore(state);
});

afterEach(async () => {
  await enroller.stop(0);
  rmSync(directory, { recursive: true });
});

async function give(overrides: Parameters<typeof testTerms>[0] = {}, address?: string): Promise<void> {
  const at = address ?? `127.0.0.1:${enroller.address.port}`;
  writeFileSync(joinFile, await invite(kube, testTerms(overrides), ca.root.certificatePem, at));
}

describe("a join string beside a membership", () => {
  it("makes a new membership: the way back for a host whose certificate ran out", async () => {
    await give();
    const first = await membership(config, store, silentLog);
    await give();
    const second = await membership(config, store, silentLog);
    expect(second.problem).toBeUndefined();
    expect(second.member.identity.keyPem).not.toBe(first.member.identity.keyPem);
    expect(second.member.configuration.workload).toEqual(first.member.configuration.workload);
    expect(existsSync(joinFile)).toBe(false);
  });

  it("that is spent takes nothing away, and is not tried again", async () => {
    await give();
    const { member } = await membership(config, store, silentLog);
    await give({ expiresAtMs: Date.now() - 1 });
    const again = await membership(config, store, silentLog);
    expect(again.member).toEqual(member);
    expect(again).toMatchObject({ pending: false, problem: expect.stringContaining("expired") });
    expect(existsSync(joinFile)).toBe(false);
  });

  it("that nobody answers is kept for the next start", async () => {
    await give();
    const { member } = await membership(config, store, silentLog);
    await give({}, "127.0.0.1:1");
    const again = await membership(config, store, silentLog);
    expect(again.member).toEqual(member);
    expect(again.pending).toBe(true);
    expect(existsSync(joinFile)).toBe(true);
  });
});

it("keeps the key where only its owner reads it: P-256, made here, 0600 in 0700", async () => {
  await give();
  const { member } = await membership(config, store, silentLog);
  const state = join(directory, "state");
  expect(importKey(member.identity.keyPem)?.asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
  expect(statSync(state).mode & 0o777).toBe(0o700);
  const files = readdirSync(state);
  expect(files).toContain("membership.json");
  for (const file of files) expect(statSync(join(state, file)).mode & 0o777).toBe(0o600);
});

it("writes no word of a join string into its log, and none of the key", async () => {
  const lines: string[] = [];
  const line = (fields: object, message: string) => void lines.push(`${message} ${JSON.stringify(fields)}`);
  const log = { debug: line, info: line, warn: line, error: line };
  await give();
  const { member } = await membership(config, store, log);
  const text = await invite(kube, testTerms(), ca.root.certificatePem, "127.0.0.1:1");
  writeFileSync(joinFile, text);
  await membership(config, store, log);
  writeFileSync(joinFile, text.slice(0, -3));
  await membership(config, store, log);
  expect(lines.length).toBeGreaterThan(2);
  for (const said of lines) {
    expect(said).not.toContain(text.slice(4, 30));
    expect(said).not.toContain(member.identity.keyPem.split("\n")[1] ?? "PRIVATE KEY");
  }
});

describe("a group whose hosts an administrator approves", () => {
  const terms = testTerms();
  const stored = { format: 2, namespace: "shop", name: "manual", from: [], uses: 1 } as const;

  /** Time that passes when somebody waits for it. */
  function impatient(): { scheduler: Scheduler; waits: string[]; asked: () => Promise<void> } {
    const waits: string[] = [];
    const pauses: (() => void)[] = [];
    const scheduler = {
      ...realScheduler,
      after: (_: number, run: () => void) => {
        pauses.push(run);
        return () => {};
      },
    };
    const asked = async () => {
      await until(() => pauses.length > 0, "it waits");
      pauses.shift()?.();
    };
    return { scheduler, waits, asked };
  }

  async function prepare(): Promise<void> {
    const group = groupFor({ ...terms, name: "manual" }, { approval: "Manual" });
    await kube.create(GROUPS, "shop", group);
    const invitation = newInvitation({ ...stored, expiresAtMs: Date.now() + 60_000 }, "linkerd");
    await kube.create(SECRETS, "linkerd", invitation.object);
    const join = encodeJoinString({
      enrollers: [`127.0.0.1:${enroller.address.port}`],
      pins: [certificatePin(new X509Certificate(ca.root.certificatePem))],
      controlPlaneNamespace: "linkerd",
      trustDomain: "cluster.local",
      invitationId: invitation.id,
      secret: invitation.secret,
    });
    writeFileSync(joinFile, join);
  }

  it("is waited for, also by the next process, with one use of the invitation", async () => {
    await prepare();
    const first = impatient();
    // This process ends while it waits: nobody hears how.
    void membership(config, store, silentLog, { ...first, waits: (why) => first.waits.push(why) }).catch(() => {});
    await first.asked();
    await until(() => first.waits.length === 2, "asked again");
    expect(first.waits[0]).toMatch(/^shop\/manual-[0-9a-f]{8} waits for the approval of an administrator$/);
    expect(statSync(join(config["state.directory"], "join-key.pem")).mode & 0o777).toBe(0o600);
    expect(existsSync(joinFile)).toBe(true);

    const second = impatient();
    const waiting = membership(config, store, silentLog, { ...second, waits: (why) => second.waits.push(why) });
    await until(() => second.waits.length === 1, "the next process asked");
    const waitingNow = await waitingHosts(kube, "shop");
    expect(waitingNow).toHaveLength(1);
    await decide(kube, "shop", "manual", "Approve", () => true);
    await second.asked();
    const { member } = await waiting;
    expect(member.configuration.workload.name).toBe(waitingNow[0]?.name);
    expect(existsSync(joinFile)).toBe(false);
    expect(existsSync(join(config["state.directory"], "join-key.pem"))).toBe(false);
  });

  it("ends when it is denied, and leaves no key behind", async () => {
    await prepare();
    const { asked, scheduler } = impatient();
    const waiting = membership(config, store, silentLog, { scheduler });
    waiting.catch(() => {});
    await until(async () => (await waitingHosts(kube, "shop")).length === 1, "it waits");
    await decide(kube, "shop", "manual", "Deny", () => true);
    await asked();
    await expect(waiting).rejects.toMatchObject({ exitCode: 77, message: expect.stringContaining("has denied") });
    expect(existsSync(join(config["state.directory"], "join-key.pem"))).toBe(false);
  });
});
