import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { destination, inbound, outbound } from "../../../src/proto/index.ts";
import { EndpointTable } from "../../../src/proxy/discovery/endpoints.ts";
import { decodeInboundPolicy } from "../../../src/proxy/discovery/inbound-policy.ts";
import { decodeOutboundPolicy } from "../../../src/proxy/discovery/outbound-policy.ts";
import { combineOutbound } from "../../../src/proxy/discovery/outbound-state.ts";
import { decodeProfile } from "../../../src/proxy/discovery/profile.ts";
import { compilePattern } from "../../../src/proxy/discovery/regex.ts";
import {
  add,
  detectServer,
  meshed,
  noEndpoints,
  outboundPolicy,
  podAddr,
  profile,
  remove,
  server,
  servicePolicy,
  update,
} from "../../support/mesh-messages.ts";
import type { FuzzTarget } from "../harness.ts";

const COVERS = "src/proxy/discovery/";
// Expressions are remembered, 1,024 of them at most; a cache that fills is no growth with the number of inputs.
for (let i = 0; i < 1_024; i++) compilePattern(`/a/[a-z]+${i}`);
// Field numbers with length, and short texts: what turns one field into another.
const DICTIONARY = [
  Buffer.of(0x0a, 0),
  Buffer.of(0x12, 2, 0x08, 1),
  Buffer.of(0x1a, 1, 0x2f),
  Buffer.of(0x22, 3, 0x61, 0x2e, 0x62),
  Buffer.of(0x08, 0xff, 0xff, 0xff, 0xff, 0x0f),
  Buffer.of(0x0d, 1, 0, 0, 10),
  Buffer.of(0x10, 0x80, 0x01),
];

/** Hands over what the bytes say as a message; bytes that are none are the library's to refuse. */
function read<Schema extends DescMessage>(
  schema: Schema,
  bytes: Buffer,
  use: (message: MessageShape<Schema>) => unknown,
): unknown {
  let message: MessageShape<Schema>;
  try {
    message = fromBinary(schema, bytes);
  } catch {
    return undefined;
  }
  return use(message);
}

const inboundPolicy: FuzzTarget = {
  name: "inbound-policy",
  seeds: [detectServer(), detectServer({ authorizations: [meshed("a.b"), meshed()] })].map((init) =>
    Buffer.from(toBinary(inbound.ServerSchema, server(init))),
  ),
  dictionary: DICTIONARY,
  covers: COVERS,
  run: (pieces) =>
    read(inbound.ServerSchema, Buffer.concat(pieces), (message) =>
      structuredClone(decodeInboundPolicy(message).policy),
    ),
};

const outboundPolicies: FuzzTarget = {
  name: "outbound-policy",
  seeds: [Buffer.from(toBinary(outbound.OutboundPolicySchema, outboundPolicy(servicePolicy())))],
  dictionary: DICTIONARY,
  covers: COVERS,
  run: (pieces) =>
    read(outbound.OutboundPolicySchema, Buffer.concat(pieces), (message) =>
      structuredClone(combineOutbound("10.0.0.1", 80, decodeOutboundPolicy(message).policy, undefined)),
    ),
};

const profiles: FuzzTarget = {
  name: "destination-profile",
  seeds: [
    profile({ fullyQualifiedName: "web.shop.svc.cluster.local", routes: [{ isRetryable: true }] }),
    profile({ opaqueProtocol: true, endpoint: podAddr("10.0.0.2") }),
  ].map((message) => Buffer.from(toBinary(destination.DestinationProfileSchema, message))),
  dictionary: DICTIONARY,
  covers: COVERS,
  run: (pieces) =>
    read(destination.DestinationProfileSchema, Buffer.concat(pieces), (message) =>
      structuredClone(combineOutbound("10.0.0.1", 80, undefined, decodeProfile(message))),
    ),
};

const updates: FuzzTarget = {
  name: "destination-update",
  seeds: [add(podAddr("10.0.0.2"), podAddr("10.0.0.3")), remove("10.0.0.2"), noEndpoints(true)].map((init) =>
    Buffer.from(toBinary(destination.UpdateSchema, update(init))),
  ),
  dictionary: DICTIONARY,
  covers: COVERS,
  run(pieces) {
    const table = new EndpointTable();
    const mirror = new Set<string>();
    // Each piece is a message of its own, and the whole one more.
    for (const bytes of [...pieces, Buffer.concat(pieces)]) {
      read(destination.UpdateSchema, bytes, (message) => {
        const change = table.apply(message);
        for (const key of change?.remove ?? []) mirror.delete(key);
        for (const { key } of change?.add ?? []) mirror.add(key);
      });
    }
    if (mirror.size !== table.endpoints.size) throw new Error("the table and its changes disagree");
    return table;
  },
};

export const DISCOVERY_TARGETS: readonly FuzzTarget[] = [inboundPolicy, outboundPolicies, profiles, updates];
