import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  destination,
  grpcRoute,
  httpRoute,
  httpTypes,
  inbound,
  net,
  outbound,
  spiffe,
  transportHeader,
} from "../../../src/proto/index.ts";

/** Field numbers and wire types are promises to other programs: each line is the message and its bytes, by hand. */
function encodes<D extends DescMessage>(name: string, schema: D, message: MessageInitShape<D>, hex: string): void {
  test(name, () => {
    const bytes = Buffer.from(toBinary(schema, create(schema, message))).toString("hex");
    expect(bytes).toBe(hex.replaceAll(" ", ""));
    expect(toBinary(schema, fromBinary(schema, Buffer.from(bytes, "hex")))).toEqual(
      toBinary(schema, create(schema, message)),
    );
  });
}

describe("net", () => {
  encodes(
    "IPv4 10.1.2.3 is a fixed32, so little-endian on the wire",
    net.IPAddressSchema,
    { ip: { case: "ipv4", value: 0x0a010203 } },
    "0d 0302010a",
  );
  encodes("0.0.0.0 is sent, being in a oneof", net.IPAddressSchema, { ip: { case: "ipv4", value: 0 } }, "0d 00000000");
  encodes(
    "IPv6 fd00::1 is two fixed64",
    net.IPAddressSchema,
    { ip: { case: "ipv6", value: { first: 0xfd00000000000000n, last: 1n } } },
    "12 12 09 00000000000000fd 11 0100000000000000",
  );
  encodes(
    "TCP 10.1.2.3:8080",
    net.TcpAddressSchema,
    { ip: { ip: { case: "ipv4", value: 0x0a010203 } }, port: 8080 },
    "0a 05 0d0302010a 10 903f",
  );
  encodes(
    "10.0.0.0/8",
    net.IPNetworkSchema,
    { ip: { ip: { case: "ipv4", value: 0x0a000000 } }, prefixLen: 8 },
    "0a 05 0d0000000a 10 08",
  );
});

describe("http_types", () => {
  encodes(
    "GET is zero, and still sent",
    httpTypes.HttpMethodSchema,
    { type: { case: "registered", value: httpTypes.HttpMethod_Registered.GET } },
    "08 00",
  );
  encodes(
    "TRACE is 8",
    httpTypes.HttpMethodSchema,
    { type: { case: "registered", value: httpTypes.HttpMethod_Registered.TRACE } },
    "08 08",
  );
  encodes(
    "an own method goes by name",
    httpTypes.HttpMethodSchema,
    { type: { case: "unregistered", value: "PURGE" } },
    "12 05 5055524745",
  );
  encodes(
    "https",
    httpTypes.SchemeSchema,
    { type: { case: "registered", value: httpTypes.Scheme_Registered.HTTPS } },
    "08 01",
  );
  encodes(
    "header values are bytes",
    httpTypes.HeadersSchema,
    { headers: [{ name: "a", value: Uint8Array.of(0xff) }] },
    "0a 06 0a0161 1201ff",
  );
});

describe("destination", () => {
  encodes(
    "an ExternalWorkload's TLS identity: URI 3, server name 4",
    destination.TlsIdentitySchema,
    { strategy: { case: "uriLikeIdentity", value: { uri: "spiffe://t/x" } }, serverName: { name: "x" } },
    `1a 0e 0a0c ${Buffer.from("spiffe://t/x").toString("hex")} 22 03 0a0178`,
  );
  encodes(
    "hint h2 with opaque transport on 4143",
    destination.ProtocolHintSchema,
    { protocol: { case: "h2", value: {} }, opaqueTransport: { inboundPort: 4143 } },
    "0a 00 12 03 08af20",
  );
  encodes("hint opaque", destination.ProtocolHintSchema, { protocol: { case: "opaque", value: {} } }, "1a 00");
  encodes(
    "weight 10000 is field 3; there is no field 2",
    destination.WeightedAddrSchema,
    { weight: 10000, metricLabels: { k: "v" } },
    "18 904e 22 06 0a016b 120176",
  );
  encodes(
    "no_endpoints",
    destination.UpdateSchema,
    { update: { case: "noEndpoints", value: { exists: true } } },
    "1a 02 0801",
  );
  encodes(
    "a retry budget's ratio is a float",
    destination.RetryBudgetSchema,
    { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: { seconds: 10n } },
    "0d cdcc4c3e 10 0a 1a 02 080a",
  );
});

describe("inbound", () => {
  encodes(
    "detect: timeout 1, routes 3 (2 is reserved)",
    inbound.ProxyProtocolSchema,
    { kind: { case: "detect", value: { timeout: { seconds: 10n }, httpRoutes: [{}] } } },
    "0a 06 0a02080a 1a00",
  );
  encodes(
    "http1 keeps its routes in field 2",
    inbound.ProxyProtocolSchema,
    { kind: { case: "http1", value: { routes: [{}] } } },
    "22 02 1200",
  );
  encodes(
    "any identity is an empty suffix",
    inbound.AuthnSchema,
    {
      permit: {
        case: "meshTLS",
        value: { clients: { case: "identities", value: { suffixes: [{ parts: [] }] } } },
      },
    },
    "12 04 12 02 12 00",
  );
});

describe("routes", () => {
  encodes("prefix match", httpRoute.PathMatchSchema, { kind: { case: "prefix", value: "/" } }, "12 01 2f");
  encodes(
    "exact header",
    httpRoute.HeaderMatchSchema,
    { name: "a", value: { case: "exact", value: Uint8Array.of(1) } },
    "0a0161 120101",
  );
  encodes("gRPC service and method", grpcRoute.GrpcRpcMatchSchema, { service: "s", method: "m" }, "0a0173 12016d");
});

describe("outbound", () => {
  encodes("protocols: detect 1 … tls 6", outbound.ProxyProtocolSchema, { kind: { case: "tls", value: {} } }, "32 00");
  encodes(
    "an opaque route's rules are field 3",
    outbound.OpaqueRouteSchema,
    { rules: [{ filters: [{ kind: { case: "forbidden", value: {} } }] }] },
    "1a 04 12 02 1200",
  );
  encodes(
    "gRPC retry conditions sit at their status codes",
    outbound.GrpcRoute_Retry_ConditionsSchema,
    { cancelled: true, deadineExceeded: true, resourceExhausted: true, internal: true, unavailable: true },
    "0801 2001 4001 6801 7001",
  );
  encodes(
    "a balancer with peak EWMA",
    outbound.BackendSchema,
    {
      kind: {
        case: "balancer",
        value: {
          discovery: { kind: { case: "dst", value: { path: "a:1" } } },
          load: { case: "peakEwma", value: { defaultRtt: { nanos: 30_000_000 }, decay: { seconds: 10n } } },
        },
      },
    },
    "1a 16 0a07 0a05 0a03613a31 120b 0a05 108087a70e 1202 080a",
  );
});

describe("spiffe and transport header", () => {
  encodes(
    "an SVID's fields",
    spiffe.X509SVIDSchema,
    { spiffeId: "s", x509Svid: Uint8Array.of(1), x509SvidKey: Uint8Array.of(2), bundle: Uint8Array.of(3) },
    "0a0173 120101 1a0102 220103",
  );
  encodes(
    "port 8080, HTTP/2 follows",
    transportHeader.HeaderSchema,
    { port: 8080, sessionProtocol: { kind: { case: "http2", value: {} } } },
    "08 903f 1a 02 1200",
  );
});
