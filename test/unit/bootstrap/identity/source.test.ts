import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { BootstrapError, silentLog } from "../../../../src/bootstrap/control/index.ts";
import { EnrolledIdentity } from "../../../../src/bootstrap/identity/index.ts";
import type { WorkloadIdentity } from "../../../../src/proxy/core/identity.ts";
import { FakeScheduler } from "../../../support/fake-scheduler.ts";
import { type TestPair, testCertificate, testMeshCa } from "../../../support/test-ca.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

let ca: { root: TestPair; issuer: TestPair };
let other: TestPair;
let leaf: TestPair;
let scheduler: FakeScheduler;
let attempts: number[];
/** What the enroller does at the moment. */
let answer: () => Promise<WorkloadIdentity>;
let unsaved: boolean;
let saved: WorkloadIdentity[];

beforeAll(async () => {
  const life = { notBeforeMs: 0, notAfterMs: 4_000_000_000_000 };
  ca = await testMeshCa();
  other = (await testMeshCa()).root;
  leaf = await testCertificate({ issuer: ca.issuer, ...life });
});

beforeEach(() => {
  scheduler = new FakeScheduler();
  scheduler.wallOffsetMs = Date.now();
  attempts = [];
  unsaved = false;
  saved = [];
  answer = () => Promise.resolve(identity(scheduler.wallMs()));
});

/** A day's certificate from a moment on. */
function identity(fromMs: number, lifeMs = DAY): WorkloadIdentity {
  return {
    generation: 1,
    name: "app.shop",
    uri: "spiffe://td/ns/shop/sa/app",
    serverName: "app.shop",
    keyPem: leaf.keyPem,
    certificatePem: leaf.certificatePem + ca.issuer.certificatePem,
    trustAnchorsPem: [ca.root.certificatePem],
    notBeforeMs: fromMs,
    notAfterMs: fromMs + lifeMs,
  };
}

function source(first = identity(scheduler.wallMs())): EnrolledIdentity {
  const made = new EnrolledIdentity({
    identity: first,
    workload: { namespace: "shop", name: "app-1", serviceAccount: "app" },
    mesh: { controlPlaneNamespace: "linkerd", trustDomain: "td" },
    enrollers: () => ["192.0.2.1:4145"],
    machine: "",
    version: "0.1.0",
    scheduler,
    log: silentLog,
    save: (next) => {
      if (unsaved) throw new Error("ENOSPC");
      saved.push(next);
    },
    renew: () => {
      attempts.push(scheduler.wallMs());
      return answer();
    },
  });
  made.start();
  return made;
}

const away = () => Promise.reject(new BootstrapError("unreachable", "nobody answers"));

describe("renewal", () => {
  it("comes at seventy percent of the life, a little earlier by chance, again and again", async () => {
    const began = scheduler.wallMs();
    const made = source();
    await scheduler.pass(0.68 * DAY, 5 * MINUTE);
    expect(attempts).toEqual([]);
    await scheduler.pass(0.02 * DAY, MINUTE);
    expect(attempts).toHaveLength(1);
    expect((attempts[0] ?? 0) - began).toBeGreaterThanOrEqual(0.68 * DAY);
    expect(made.current()?.generation).toBe(2);
    expect(saved).toHaveLength(1);
    await scheduler.pass(DAY, 5 * MINUTE);
    expect(attempts).toHaveLength(2);
  });

  it("does not give up while the enroller is away for days, and works within a minute of its return", async () => {
    const made = source();
    answer = away;
    await scheduler.pass(0.95 * DAY, 5_000);
    expect(made.status().failures).toBeGreaterThan(100);
    expect(made.status().lastError).toBe("nobody answers");
    const gaps = attempts.slice(1).map((at, i) => at - (attempts[i] ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1_000);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(60_000);
    answer = () => Promise.resolve(identity(scheduler.wallMs()));
    await scheduler.pass(MINUTE, 1_000);
    expect(made.status()).toMatchObject({ failures: 0, lastError: undefined });
    expect(made.current()?.generation).toBe(2);
  });

  it("goes on after the end: it may be the clock that is wrong", async () => {
    const made = source();
    answer = away;
    await scheduler.pass(1.1 * DAY, 5_000);
    expect(made.current()).toBeDefined();
    scheduler.wallOffsetMs -= 0.5 * DAY;
    answer = () => Promise.resolve(identity(scheduler.wallMs()));
    await scheduler.pass(MINUTE, 1_000);
    expect(made.current()?.generation).toBe(2);
  });

  it("notices within a minute that the clock was moved, or that the machine slept", async () => {
    source();
    scheduler.wallOffsetMs += 0.8 * DAY;
    await scheduler.pass(MINUTE, 1_000);
    expect(attempts).toHaveLength(1);
  });

  it("waits longer when the clock was moved back", async () => {
    source();
    scheduler.wallOffsetMs -= 0.5 * DAY;
    await scheduler.pass(0.8 * DAY, 5 * MINUTE);
    expect(attempts).toEqual([]);
  });

  it("keeps what it has when an answer is refused", async () => {
    const first = identity(scheduler.wallMs());
    const made = source(first);
    answer = () => Promise.reject(new BootstrapError("answer-refused", "for another key"));
    await scheduler.pass(0.8 * DAY, MINUTE);
    expect(attempts.length).toBeGreaterThan(1);
    expect(made.current()).toBe(first);
  });

  it("is made at a moment of chance when another issuer signs", async () => {
    const made = source();
    made.renewWithin(10 * MINUTE);
    await scheduler.pass(4 * MINUTE, 10_000);
    expect(attempts).toEqual([]);
    await scheduler.pass(2 * MINUTE, 10_000);
    expect(attempts).toHaveLength(1);
    await scheduler.pass(HOUR, 5 * MINUTE);
    expect(attempts).toHaveLength(1);
  });

  it("does not hurry an attempt that already waits after failures", async () => {
    const made = source();
    answer = away;
    await scheduler.pass(0.71 * DAY, 5_000);
    const before = attempts.length;
    for (let i = 0; i < 10; i++) made.renewWithin(0);
    await scheduler.pass(500, 100);
    expect(attempts.length - before).toBeLessThanOrEqual(1);
  });

  it("survives a full disk: in use at once, stored when there is room", async () => {
    const made = source();
    unsaved = true;
    await made.renewNow();
    expect(made.current()?.generation).toBe(2);
    expect(saved).toEqual([]);
    unsaved = false;
    await scheduler.pass(2 * MINUTE, 10_000);
    expect(saved.map(({ generation }) => generation)).toEqual([2]);
  });
});

describe("trust anchors", () => {
  it("are another generation of the same certificate", async () => {
    const made = source();
    const seen: number[] = [];
    made.subscribe(({ generation }) => seen.push(generation));
    made.setTrustAnchors([ca.root.certificatePem, other.certificatePem]);
    made.setTrustAnchors([ca.root.certificatePem, other.certificatePem]);
    expect(seen).toEqual([2]);
    await scheduler.pass(MINUTE, 10_000);
    expect(attempts).toEqual([]);
  });

  it("that do not vouch for the certificate make it renew at once", async () => {
    const made = source();
    made.setTrustAnchors([other.certificatePem]);
    await scheduler.pass(1_000, 100);
    expect(attempts).toHaveLength(1);
  });
});

it("is nothing after a revocation, also for an answer on its way", async () => {
  const made = source();
  let late: (identity: WorkloadIdentity) => void = () => {};
  answer = () => new Promise((resolve) => (late = resolve));
  const renewing = made.renewNow();
  made.shutDown();
  late(identity(scheduler.wallMs()));
  await expect(renewing).rejects.toMatchObject({ code: "no-identity" });
  expect(made.current()).toBeUndefined();
});
