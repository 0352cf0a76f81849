import { describe, expect, it } from "vitest";
import { type Cidr, type Ip, parseCidr, parseIp } from "../../../../src/proxy/core/address.ts";
import {
  type Authentication,
  type Authorization,
  authorize,
  type Client,
  defaultRef,
} from "../../../../src/proxy/policy/index.ts";

const cidr = (text: string): Cidr => parseCidr(text) as Cidr;
const ip = (text: string): Ip => parseIp(text) as Ip;
const ALL = [{ net: cidr("0.0.0.0/0"), except: [] }];

const allow = (authentication: Authentication, networks: Authorization["networks"] = ALL): Authorization => ({
  ref: defaultRef("x"),
  networks,
  authentication,
});
const plain: Client = { ip: ip("10.0.0.1"), tls: "none", id: undefined };
const anonymous: Client = { ...plain, tls: "anonymous" };
const dns = (id: string): Client => ({ ...plain, tls: "identity", id });
const DNS_ID = "web.shop.serviceaccount.identity.linkerd.cluster.local";
const SPIFFE = "spiffe://cluster.local/ns/shop/sa/web";
/** As a host of ours: a DNS name first, a URI second. */
const both: Client = { ...dns(DNS_ID), otherNames: [SPIFFE] };
const identities = (identities: string[], suffixes: string[] = []): Authentication => ({
  kind: "identities",
  identities,
  suffixes,
});

describe("authorize", () => {
  it.each<[string, Authentication, Client, boolean]>([
    ["anyone", { kind: "none" }, plain, true],
    ["mesh TLS without identity", { kind: "mesh-tls" }, anonymous, true],
    ["mesh TLS with identity", { kind: "mesh-tls" }, dns(DNS_ID), true],
    ["no TLS where it is wanted", { kind: "mesh-tls" }, plain, false],
    ["exact identity", identities([DNS_ID]), dns(DNS_ID), true],
    ["other identity", identities([DNS_ID]), dns("x.y"), false],
    ["identity wanted, anonymous", identities([DNS_ID], [""]), anonymous, false],
    ["identity wanted, plaintext", identities([DNS_ID], [""]), plain, false],
    ["any DNS identity", identities([], [""]), dns(DNS_ID), true],
    ["suffix", identities([], [".serviceaccount.identity.linkerd.cluster.local"]), dns(DNS_ID), true],
    ["suffix needs a label", identities([], [".a.b"]), dns("a.b"), false],
    ["suffix begins at a label", identities([], [".a.b"]), dns("xa.b"), false],
    ["policy strings keep their case", identities(["A.b"]), dns("a.b"), false],
    ["SPIFFE listed literally", identities([SPIFFE]), dns(SPIFFE), true],
    ["SPIFFE and *", identities([], [""]), dns(SPIFFE), false],
    ["SPIFFE and a suffix", identities([], ["/ns/shop/sa/web"]), dns(SPIFFE), false],
    ["another name of its certificate, listed literally", identities([SPIFFE]), both, true],
    [
      "another name of its certificate, and *",
      identities([], [""]),
      { ...both, id: SPIFFE, otherNames: [DNS_ID] },
      false,
    ],
    ["none of its names", identities(["spiffe://cluster.local/ns/shop/sa/other"]), both, false],
    ["other names without proof", identities([SPIFFE]), { ...plain, otherNames: [SPIFFE] }, false],
    ["a claimed id without proof", identities([DNS_ID]), { ...plain, id: DNS_ID }, false],
  ])("%s", (_, authentication, client, allowed) => {
    expect(authorize([allow(authentication)], client) !== undefined).toBe(allowed);
  });

  it("reads networks with their exceptions", () => {
    const holed = [{ net: cidr("10.0.0.0/8"), except: [cidr("10.1.0.0/16")] }];
    const allowed = (networks: Authorization["networks"], address: string): boolean =>
      authorize([allow({ kind: "none" }, networks)], { ...plain, ip: ip(address) }) !== undefined;
    expect(allowed(holed, "10.2.0.1")).toBe(true);
    expect(allowed(holed, "10.1.0.1")).toBe(false);
    expect(allowed(holed, "11.0.0.1")).toBe(false);
    // The exception is of its own entry only.
    expect(allowed([...holed, { net: cidr("10.1.2.0/24"), except: [] }], "10.1.2.3")).toBe(true);
    expect(allowed(holed, "fd00::1")).toBe(false);
    expect(allowed([], "10.0.0.1")).toBe(false);
  });

  it("says which one allowed it, the first that does", () => {
    const first = allow(identities(["x"]));
    const second = allow({ kind: "none" });
    expect(authorize([first, second, allow({ kind: "none" })], plain)).toBe(second);
    expect(authorize([], plain)).toBeUndefined();
  });
});
