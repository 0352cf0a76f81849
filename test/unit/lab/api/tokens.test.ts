import { describe, expect, it } from "vitest";
import { LabStore, LabTokens, TYPES } from "../../../../src/lab/api/index.ts";

const LINKERD = "identity.l5d.io";

function lab() {
  const clock = { now: 1_000_000_000_000 };
  const store = new LabStore({ now: () => clock.now });
  return { clock, store, tokens: new LabTokens(store, () => clock.now) };
}

describe("LabTokens", () => {
  it("knows its own tokens for the audience they were made for", () => {
    const { tokens } = lab();
    const { token } = tokens.issue("default", "default", [LINKERD]);
    expect(tokens.review(token, [LINKERD])).toMatchObject({
      authenticated: true,
      username: "system:serviceaccount:default:default",
    });
    const other = tokens.review(token);
    expect(other).toMatchObject({ authenticated: false });
    expect("error" in other && other.error).toContain("token audiences");
  });

  it("refuses a token that ended, was changed, or whose account is another by now", () => {
    const { clock, store, tokens } = lab();
    const { token } = tokens.issue("default", "default");
    expect(tokens.review(`${token.slice(0, -2)}xx`).authenticated).toBe(false);
    expect(tokens.review("").authenticated).toBe(false);
    expect(tokens.review(token).authenticated).toBe(true);
    clock.now += 3600_000;
    expect(tokens.review(token).authenticated).toBe(false);
    const fresh = tokens.issue("default", "default");
    store.delete(TYPES.serviceAccounts, "default", "default");
    store.create(TYPES.serviceAccounts, "default", {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: "default" },
    });
    expect(tokens.review(fresh.token).authenticated).toBe(false);
  });

  it("serves the token subresource within Kubernetes' bounds", () => {
    const { tokens } = lab();
    const answer = tokens.request("default", "default", { spec: { audiences: [LINKERD], expirationSeconds: 600 } });
    expect(answer["status"]).toMatchObject({ expirationTimestamp: "2001-09-09T01:56:40Z" });
    expect(() => tokens.request("default", "default", { spec: { expirationSeconds: 599 } })).toThrow("10 minutes");
    expect(() => tokens.request("default", "nobody", {})).toThrow("not found");
  });
});
