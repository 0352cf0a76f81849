import { beforeEach, describe, expect, it } from "vitest";
import {
  newInvitation,
  redeem,
  SECRETS,
  type Secret,
  sweepInvitations,
} from "../../../../src/bootstrap/enroller/index.ts";
import { MemoryKube } from "../../../support/memory-kube.ts";
import { testTerms } from "../../../support/mesh-kube.ts";

const NOW = 1_800_000_000_000;
let kube: MemoryKube;

beforeEach(() => {
  kube = new MemoryKube();
});

async function prepare(overrides: Parameters<typeof testTerms>[0] = {}) {
  const invitation = newInvitation(testTerms({ expiresAtMs: NOW + 1000, ...overrides }), "linkerd");
  await kube.create(SECRETS, "linkerd", invitation.object);
  return (
    key: string,
    more: { address?: string; wallMs?: number; secret?: Buffer; id?: string; machine?: string } = {},
  ) =>
    redeem(kube, "linkerd", {
      id: invitation.id,
      secret: invitation.secret,
      key,
      machine: "machine-a",
      address: "192.0.2.1",
      wallMs: NOW,
      ...more,
    });
}

describe("an invitation", () => {
  it("does not keep its secret", async () => {
    const invitation = newInvitation(testTerms(), "linkerd");
    const text = JSON.stringify(invitation.object);
    for (const form of ["hex", "base64", "base64url"] as const)
      expect(text).not.toContain(invitation.secret.toString(form));
  });

  it("is spent by as many hosts as it allows", async () => {
    const use = await prepare({ uses: 2 });
    await use("key-a");
    await use("key-b");
    await expect(use("key-c")).rejects.toMatchObject({ code: "invitation-spent" });
  });

  it("cannot be overspent by hosts that come at the same moment", async () => {
    const use = await prepare({ uses: 3 });
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => use(`key-${i}`)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
  });

  it("answers the same key again for ten minutes, without another use", async () => {
    const use = await prepare({ expiresAtMs: NOW + 3_600_000 });
    await use("key-a");
    await use("key-a", { wallMs: NOW + 599_000 });
    await expect(use("key-a", { wallMs: NOW + 601_000 })).rejects.toMatchObject({ code: "invitation-spent" });
  });

  it("does not take the same key for another machine for a repetition: that would be a second host for one use", async () => {
    const use = await prepare();
    await use("key-a");
    await expect(use("key-a", { machine: "machine-b" })).rejects.toMatchObject({ code: "invitation-spent" });
  });

  it("asks for approval again when an answer is repeated", async () => {
    const invitation = newInvitation(testTerms({ expiresAtMs: NOW + 1000 }), "linkerd");
    await kube.create(SECRETS, "linkerd", invitation.object);
    const attempt = {
      id: invitation.id,
      secret: invitation.secret,
      key: "a",
      machine: "m",
      address: "192.0.2.1",
      wallMs: NOW,
    };
    await redeem(kube, "linkerd", attempt);
    const approval = { before: () => Promise.reject(new Error("attached")), waits: async () => false };
    await expect(redeem(kube, "linkerd", attempt, approval)).rejects.toThrow("attached");
  });

  it("ends", async () => {
    const use = await prepare();
    await expect(use("key", { wallMs: NOW + 1000 })).rejects.toMatchObject({ code: "invitation-expired" });
  });

  it("may be bound to networks", async () => {
    const use = await prepare({ from: ["192.0.2.0/24", "2001:db8::/32"], uses: 9 });
    await use("a", { address: "192.0.2.200" });
    await use("b", { address: "2001:db8::5" });
    await expect(use("c", { address: "198.51.100.1" })).rejects.toMatchObject({ code: "invitation-network" });
  });

  it("says no more than that it is wrong to those who do not hold its secret", async () => {
    const use = await prepare({ expiresAtMs: NOW - 1 });
    const wrong = { code: "invitation-wrong" };
    await expect(use("a", { secret: Buffer.alloc(32) })).rejects.toMatchObject(wrong);
    await expect(use("a", { secret: Buffer.alloc(0) })).rejects.toMatchObject(wrong);
    await expect(use("a", { id: "ffffffffff" })).rejects.toMatchObject(wrong);
    await expect(use("a", { id: "../../etc" })).rejects.toMatchObject(wrong);
  });

  it("is not any Secret that happens to have the name", async () => {
    const invitation = newInvitation(testTerms(), "linkerd");
    await kube.create(SECRETS, "linkerd", { ...invitation.object, type: "Opaque" } as Secret);
    const attempt = {
      id: invitation.id,
      secret: invitation.secret,
      key: "a",
      machine: "m",
      address: "192.0.2.1",
      wallMs: NOW,
    };
    await expect(redeem(kube, "linkerd", attempt)).rejects.toMatchObject({ code: "invitation-wrong" });
  });

  it("costs no use if the host is refused for another reason", async () => {
    const invitation = newInvitation(testTerms({ expiresAtMs: NOW + 1000 }), "linkerd");
    await kube.create(SECRETS, "linkerd", invitation.object);
    const attempt = {
      id: invitation.id,
      secret: invitation.secret,
      key: "a",
      machine: "m",
      address: "192.0.2.1",
      wallMs: NOW,
    };
    const approval = { before: () => Promise.reject(new Error("no")), waits: async () => false };
    await expect(redeem(kube, "linkerd", attempt, approval)).rejects.toThrow("no");
    await redeem(kube, "linkerd", { ...attempt, key: "b" });
  });

  it("is swept a week after its end", async () => {
    await prepare();
    await sweepInvitations(kube, "linkerd", NOW + 86_400_000);
    expect(await kube.list(SECRETS, "linkerd")).toHaveLength(1);
    await sweepInvitations(kube, "linkerd", NOW + 8 * 86_400_000);
    expect(await kube.list(SECRETS, "linkerd")).toHaveLength(0);
  });
});
