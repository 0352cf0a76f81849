import { describe, expect, it } from "vitest";
import { type ExternalWorkloadGroup, groupFor, judgeClaim } from "../../../../src/bootstrap/enroller/index.ts";
import { testTerms } from "../../../support/mesh-kube.ts";

const NOW = Date.parse("2026-06-01T00:00:00Z");
type Admission = NonNullable<ExternalWorkloadGroup["spec"]["admission"]>;
type Host = NonNullable<NonNullable<ExternalWorkloadGroup["status"]>["hosts"]>[number];

const group = (admission: Admission, hosts: readonly Host[] = []): ExternalWorkloadGroup => ({
  ...groupFor(testTerms(), admission),
  status: { hosts },
});
const host = (name: string, state: Host["state"], key = `key-${name}`): Host => ({
  name,
  state,
  key,
  since: new Date(NOW).toISOString(),
});
const claim = (name: string, key = `key-${name}`) => ({
  name,
  key,
  address: "192.0.2.1",
  hostname: "vm\n",
  invitation: "0123456789",
  wallMs: NOW,
});
const names = (hosts: readonly Host[] | undefined) => hosts?.map(({ name, state }) => `${name} ${state}`);

describe("a claim for a place", () => {
  it("writes nothing where there is nothing to count and nobody to ask", () => {
    expect(judgeClaim(group({}), [], claim("a"))).toEqual({ state: "Admitted", hosts: undefined });
  });

  it("takes a place, and keeps it when it is asked again", () => {
    const { hosts } = judgeClaim(group({ maxHosts: 2 }, [host("a", "Admitted")]), [], claim("b"));
    expect(names(hosts)).toEqual(["a Admitted", "b Admitted"]);
    // What a host says of itself goes to a terminal.
    expect(hosts?.at(-1)?.hostname).not.toContain("\n");
    expect(judgeClaim(group({ maxHosts: 2 }, hosts), [], claim("b")).hosts).toBeUndefined();
  });

  it.each([
    ["listed hosts", [host("a", "Admitted"), host("b", "Pending")], []],
    ["registered hosts that no list knows", [], ["a", "b"]],
    ["both, counted once", [host("a", "Admitted")], ["a", "b"]],
  ])("is refused when %s have all of them", (_, hosts, registered) => {
    const full = group({ maxHosts: 2 }, hosts);
    expect(() => judgeClaim(full, registered, claim("c"))).toThrow(expect.objectContaining({ code: "group-full" }));
    // Who has one already does not need another.
    expect(judgeClaim(full, registered, claim("a", "new key")).state).toBe("Admitted");
  });

  it("is not in the way of others when it was denied", () => {
    const full = group({ maxHosts: 1 }, [host("a", "Denied")]);
    expect(judgeClaim(full, [], claim("b")).state).toBe("Admitted");
  });

  it("waits for a decision about the key that it shows", () => {
    const manual = (hosts: Admission["hosts"] = []) => group({ approval: "Manual", hosts });
    expect(judgeClaim(manual(), [], claim("a")).state).toBe("Pending");
    expect(judgeClaim(manual([{ name: "a", key: "other", decision: "Approve" }]), [], claim("a")).state).toBe(
      "Pending",
    );
    expect(judgeClaim(manual([{ name: "a", key: "key-a", decision: "Approve" }]), [], claim("a")).state).toBe(
      "Admitted",
    );
    // Said before the host was ever seen.
    expect(judgeClaim(manual([{ name: "a", decision: "Approve" }]), [], claim("a")).state).toBe("Admitted");
  });

  it("is denied by the newest word, whatever the group does by itself", () => {
    const hosts = [
      { name: "a", decision: "Approve" },
      { name: "a", decision: "Deny" },
    ] as const;
    expect(judgeClaim(group({ hosts }), [], claim("a")).state).toBe("Denied");
    expect(judgeClaim(group({ hosts: hosts.toReversed() }), [], claim("a")).state).toBe("Admitted");
  });
});
