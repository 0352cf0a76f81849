import { decodeQuery, encodeReply, NAME_ERROR } from "../../../src/agent/dns/index.ts";
import { parseHttpDate, parseRetryAfter } from "../../../src/proxy/balance/penalty.ts";
import { parseCidr, parseIp, parseSocketAddress } from "../../../src/proxy/core/address.ts";
import { parseAuthority } from "../../../src/proxy/core/authority.ts";
import { HeaderList, headerName } from "../../../src/proxy/core/header.ts";
import { compilePattern } from "../../../src/proxy/discovery/regex.ts";
import type { OutboundRule } from "../../../src/proxy/policy/index.ts";
import { requestLimits } from "../../../src/proxy/policy/overrides.ts";
import { identitiesOf } from "../../../src/proxy/transport/tls-identity.ts";
import type { FuzzTarget } from "../harness.ts";

const ascii = (text: string) => Buffer.from(text, "latin1");
const query = (name: string, type: number, more = "") =>
  Buffer.concat([
    Buffer.from(`abcd0100000100000000000${more === "" ? "0" : "1"}`, "hex"),
    ...name.split(".").map((label) => Buffer.concat([Buffer.of(label.length), ascii(label)])),
    Buffer.of(0, 0, type, 0, 1),
    Buffer.from(more, "hex"),
  ]);

const ANSWERS = [[], ["10.0.0.1", "fd00::1"], Array.from({ length: 200 }, (_, i) => `10.0.0.${i}`)];

const dns: FuzzTarget = {
  name: "dns-query",
  seeds: [query("web.shop.svc.cluster.local", 1), query("a.b", 28, "00002904d000000000000000"), query("x", 255)],
  dictionary: [Buffer.of(0xc0, 12), Buffer.of(0), Buffer.of(63), Buffer.of(0, 0, 41), Buffer.of(0, 1, 0, 1)],
  covers: "src/agent/dns/",
  run(pieces) {
    const decoded = decodeQuery(Buffer.concat(pieces));
    if (decoded === undefined) return undefined;
    if (Buffer.isBuffer(decoded)) {
      if (decoded.length !== 12) throw new Error("a refusal with a body");
      return undefined;
    }
    if (/[A-Z]/.test(decoded.name)) throw new Error("not in lower case");
    for (const addresses of ANSWERS) {
      for (const stream of [true, false]) {
        const reply = {
          code: addresses.length === 0 ? NAME_ERROR : 0,
          addresses,
          services: addresses.map((_, port) => ({ port, target: `a.${"b".repeat(63)}` })),
          ttlSeconds: 5,
          zone: undefined,
        } as const;
        const bytes = encodeReply(decoded, reply, stream);
        // RFC 1035 §4.2.1: a client that says nothing takes 512 bytes over UDP; nobody gets more than 1,232.
        if (!stream && bytes.length > Math.max(512, Math.min(1_232, decoded.edns ?? 0)))
          throw new Error("too long for UDP");
      }
    }
    return decoded;
  },
};

const RULE = {
  allowRequestHeaders: true,
  timeouts: { requestMs: 1, responseMs: 2, idleMs: undefined, streamMs: undefined },
  retry: undefined,
} as unknown as OutboundRule;
const OVERRIDES = [
  "l5d-retry-http",
  "l5d-retry-grpc",
  "l5d-retry-limit",
  "l5d-retry-timeout",
  "l5d-timeout",
  "l5d-response-timeout",
];

const overrides: FuzzTarget = {
  name: "request-overrides",
  seeds: ["5xx,gateway-error,404-410", "cancelled,internal", "3", "100ms", "10s", "0"].map(ascii),
  dictionary: ["ms", "5xx", "-", ",", "999", "d", "1e9", "unavailable"].map(ascii),
  covers: "src/proxy/policy/overrides.ts",
  run(pieces) {
    const values = pieces.map((piece) => piece.toString("latin1"));
    const headers = new HeaderList();
    for (const [i, text] of OVERRIDES.entries()) {
      const name = headerName(text);
      if (name !== undefined) headers.add(name, values[i % values.length] as string);
    }
    const { timeouts, retry } = requestLimits(RULE, headers);
    if (headers.length !== 0) throw new Error("a header stayed");
    for (const ms of [timeouts.requestMs, timeouts.responseMs, retry?.timeoutMs])
      if (ms !== undefined && !(ms >= 0 && Number.isFinite(ms))) throw new Error(`a time of ${ms}`);
    for (const { start, end } of retry?.statusRanges ?? [])
      if (start < 100 || end > 599 || start > end) throw new Error("a range that is none");
    if (retry !== undefined && !(retry.maxRetries >= 0 && retry.maxRetries <= 65_535))
      throw new Error("retries without end");
    return undefined;
  },
};

const HUNDRED = "a".repeat(100);

const patterns: FuzzTarget = {
  name: "policy-pattern",
  seeds: ["/foo/[a-z]+", "(?i)a|b*", "^(a+)+$", "\\d{3}", "[^/]+"].map(ascii),
  dictionary: ["(a|a)*", "{1,50}", "(?i)", "\\p{L}", "[^", "+?", ".*"].map(ascii),
  covers: "src/proxy/discovery/regex.ts",
  run(pieces) {
    const source = Buffer.concat(pieces).toString("latin1").slice(0, 60);
    const test = compilePattern(source);
    // Linear in the text, which a stranger sends; how much a pattern costs is its operator's choice, hence the short one.
    if (test !== undefined && typeof test(HUNDRED) !== "boolean") throw new Error("neither yes nor no");
    return undefined;
  },
};

const addresses: FuzzTarget = {
  name: "addresses",
  seeds: ["10.0.0.1:80", "[::1]:8080", "web.shop.svc.cluster.local:80", "10.0.0.0/8", "fe80::1%eth0", "a"].map(ascii),
  dictionary: ["[", "]", ":", "::", "%", "/", "65536", "0x", "..", "@"].map(ascii),
  covers: "src/proxy/core/",
  run(pieces) {
    const text = Buffer.concat(pieces).toString("latin1");
    const authority = parseAuthority(text);
    if (authority?.port !== undefined && !(authority.port >= 0 && authority.port <= 65_535))
      throw new Error("a port that is none");
    const address = parseSocketAddress(text);
    if (address !== undefined && parseIp(address.ip) === undefined) throw new Error("an address that is none");
    parseCidr(text);
    return undefined;
  },
};

const names: FuzzTarget = {
  name: "certificate-names",
  seeds: ["DNS:a.example, URI:spiffe://a/ns/b/sa/c", 'DNS:"a, DNS:b"', "IP Address:10.0.0.1", "DNS:*.a"].map(ascii),
  dictionary: ["DNS:", "URI:", ", ", '"', "\\", "\\u0000", "*.", "spiffe://"].map(ascii),
  covers: "src/proxy/transport/tls-identity.ts",
  run(pieces) {
    for (const name of identitiesOf(Buffer.concat(pieces).toString("latin1"))) {
      if (name.includes('"') || (!name.includes(":") && !/^[a-z0-9_.-]{1,253}$/.test(name)))
        throw new Error(`a name: ${JSON.stringify(name)}`);
    }
    return undefined;
  },
};

const retryAfter: FuzzTarget = {
  name: "retry-after",
  seeds: ["120", "Fri, 31 Dec 1999 23:59:59 GMT", "Friday, 31-Dec-99 23:59:59 GMT", "Fri Dec 31 23:59:59 1999"].map(
    ascii,
  ),
  dictionary: ["GMT", ", ", "Dec", "99999999999", "-1", "1e3"].map(ascii),
  covers: "src/proxy/balance/penalty.ts",
  run(pieces) {
    const text = Buffer.concat(pieces).toString("latin1");
    const ms = parseRetryAfter(text, 1_000_000_000_000);
    if (ms !== undefined && !(ms >= 0 && Number.isFinite(ms))) throw new Error(`a time of ${ms}`);
    const date = parseHttpDate(text);
    if (date !== undefined && !Number.isFinite(date)) throw new Error("a date that is none");
    return undefined;
  },
};

export const TEXT_TARGETS: readonly FuzzTarget[] = [dns, overrides, patterns, addresses, names, retryAfter];
