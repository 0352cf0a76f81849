import { describe, expect, it } from "vitest";
import { type Cidr, type Ip, parseCidr, parseIp } from "../../../../src/proxy/core/address.ts";
import {
  type Client,
  DEFAULT_POLICIES,
  type DefaultPolicyName,
  decideConnection,
  decideInbound,
  decideOutbound,
  defaultInboundPolicy,
  EMPTY_OUTBOUND,
  fallbackPolicy,
  INVALID_INBOUND,
  INVALID_OUTBOUND,
  isAudit,
  LOOPBACK_AUTHORIZATION,
  outboundHttp,
} from "../../../../src/proxy/policy/index.ts";
import { requestHead } from "../../../support/http1.ts";

const client = (address: string, id?: string): Client => ({
  ip: parseIp(address) as Ip,
  tls: id === undefined ? "none" : "identity",
  id,
});
const options = { detectTimeoutMs: 10_000, clusterNetworks: [parseCidr("10.0.0.0/8") as Cidr] };

describe("default inbound policies", () => {
  const near = client("10.0.0.1");
  const far = client("203.0.113.1");
  const known = client("10.0.0.1", "a.b");
  const knownFar = client("203.0.113.1", "a.b");
  const spiffe = client("10.0.0.1", "spiffe://td/x");

  it.each<[DefaultPolicyName, boolean[]]>([
    ["all-unauthenticated", [true, true, true, true, true]],
    ["all-authenticated", [false, false, true, true, false]],
    ["cluster-unauthenticated", [true, false, true, false, true]],
    ["cluster-authenticated", [false, false, true, false, false]],
    ["audit", [true, true, true, true, true]],
    ["deny", [false, false, false, false, false]],
  ])("%s", (name, expected) => {
    const policy = defaultInboundPolicy(name, options);
    const clients = [near, far, known, knownFar, spiffe];
    expect(clients.map((each) => decideConnection(policy, each).kind === "permit")).toEqual(expected);
    const http = clients.map((each) => decideInbound(policy, requestHead(), each).kind === "permit");
    expect(http).toEqual(expected);
  });

  it("cover every name", () => {
    expect(DEFAULT_POLICIES.map((name) => defaultInboundPolicy(name, options).ref.name)).toEqual([...DEFAULT_POLICIES]);
  });

  it("may be opaque with the same authorizations", () => {
    const policy = defaultInboundPolicy("all-authenticated", { ...options, opaque: true });
    expect(policy.protocol.kind).toBe("opaque");
    expect(decideConnection(policy, known).kind).toBe("permit");
    expect(decideConnection(policy, near).kind).toBe("denied");
  });

  it("have no loopback exemption", () => {
    expect(decideConnection(defaultInboundPolicy("all-authenticated", options), client("127.0.0.1")).kind).toBe(
      "denied",
    );
  });

  it("log what audit lets through", () => {
    const { authorizations } = defaultInboundPolicy("audit", options);
    expect(authorizations.map(isAudit)).toEqual([true]);
    expect(isAudit(LOOPBACK_AUTHORIZATION)).toBe(false);
  });
});

describe("the loopback exemption", () => {
  const policy = { ...defaultInboundPolicy("deny", options), authorizations: [LOOPBACK_AUTHORIZATION] };
  it.each([
    ["127.0.0.1", true],
    ["::1", true],
    ["127.0.0.2", false],
    ["10.0.0.1", false],
  ])("%s: %s", (address, allowed) => {
    expect(decideConnection(policy, client(address)).kind === "permit").toBe(allowed);
  });
});

describe("an invalid inbound policy", () => {
  it("denies everybody with 403, and closes connections", () => {
    for (const each of [client("127.0.0.1"), client("10.0.0.1", "a.b")]) {
      expect(decideInbound(INVALID_INBOUND, requestHead(), each).kind).toBe("denied");
      expect(decideConnection(INVALID_INBOUND, each).kind).toBe("denied");
    }
  });
});

describe("built-in outbound policies", () => {
  it("invalid: fails every request", () => {
    const http = outboundHttp(INVALID_OUTBOUND, "1.1");
    expect(http && decideOutbound(http, requestHead())?.rule.filters[0]?.kind).toBe("internal-error");
    expect(INVALID_OUTBOUND.opaque?.filters[0]?.kind).toBe("invalid");
  });

  it("empty: knows no route", () => {
    const http = outboundHttp(EMPTY_OUTBOUND, "2");
    expect(http && decideOutbound(http, requestHead())).toBeUndefined();
    expect(EMPTY_OUTBOUND.opaque).toBeUndefined();
  });

  it("fallback: forwards everything to the original destination in plaintext", () => {
    const policy = fallbackPolicy("10.0.0.9", 8080);
    const http = outboundHttp(policy, "1.1");
    const distribution = http && decideOutbound(http, requestHead())?.rule.distribution;
    expect(distribution).toMatchObject({
      kind: "first-available",
      backends: [
        { backend: { dispatch: { kind: "forward", endpoint: { key: "10.0.0.9:8080", identity: undefined } } } },
      ],
    });
    expect(policy.opaque?.distribution).toEqual(distribution);
  });
});
