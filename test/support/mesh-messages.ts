import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { destination, inbound, outbound } from "../../src/proto/index.ts";

/*
 * Messages as Linkerd's controllers send them, to be spread and changed by tests.
 */

/** An unfinished literal, never a finished message: so that it can be spread. */
type Init<Schema extends DescMessage> = Exclude<MessageInitShape<Schema>, MessageShape<Schema>>;

export type ServerInit = Init<typeof inbound.ServerSchema>;
export type AuthzInit = Init<typeof inbound.AuthzSchema>;
export type PolicyInit = Init<typeof outbound.OutboundPolicySchema>;
export type BackendInit = Init<typeof outbound.BackendSchema>;
export type HttpRuleInit = Init<typeof outbound.HttpRoute_RuleSchema>;
export type WeightedAddrInit = Init<typeof destination.WeightedAddrSchema>;
export type ProfileInit = Init<typeof destination.DestinationProfileSchema>;
export type UpdateInit = Init<typeof destination.UpdateSchema>;

export const seconds = (n: number) => ({ seconds: BigInt(Math.floor(n)), nanos: Math.round((n % 1) * 1e9) });

export function ipv4(text: string) {
  const value = text.split(".").reduce((word, octet) => word * 256 + Number(octet), 0);
  return { ip: { case: "ipv4" as const, value } };
}

export const tcpAddress = (ip: string, port: number) => ({ ip: ipv4(ip), port });

export const defaultMeta = (name: string) => ({ kind: { case: "default" as const, value: name } });

export function resourceMeta(kind: string, name: string, port = 0) {
  const value = {
    group: kind === "Service" ? "core" : "gateway.networking.k8s.io",
    kind,
    name,
    namespace: "shop",
    port,
  };
  return { kind: { case: "resource" as const, value } };
}

/* ---- inbound ---- */

export const EVERYWHERE = [
  { net: { ip: ipv4("0.0.0.0"), prefixLen: 0 } },
  { net: { ip: { ip: { case: "ipv6" as const, value: { first: 0n, last: 0n } } }, prefixLen: 0 } },
];

export const anyone: AuthzInit = {
  networks: EVERYWHERE,
  authentication: { permit: { case: "unauthenticated", value: {} } },
  metadata: defaultMeta("all-unauthenticated"),
};

export function meshed(...names: string[]): AuthzInit {
  const value = { identities: names.map((name) => ({ name })) };
  return {
    networks: EVERYWHERE,
    authentication: {
      permit: { case: "meshTLS", value: { clients: { case: "identities", value } } },
    },
    metadata: resourceMeta("AuthorizationPolicy", "clients"),
  };
}

export const detectServer = (more: ServerInit = {}): ServerInit => ({
  protocol: { kind: { case: "detect", value: { timeout: seconds(10), httpRoutes: [defaultHttpRoute()] } } },
  authorizations: [anyone],
  labels: { group: "", kind: "default", name: "all-unauthenticated" },
  ...more,
});

export function defaultHttpRoute(): Init<typeof inbound.HttpRouteSchema> {
  return {
    metadata: defaultMeta("default"),
    rules: [{ matches: [{ path: { kind: { case: "prefix", value: "/" } } }] }],
  };
}

export const server = (init: ServerInit) => create(inbound.ServerSchema, init);

/* ---- outbound ---- */

export const service = (name = "web", port = 80) => resourceMeta("Service", name, port);

export function balancer(path = "web.shop.svc.cluster.local:80", more: BackendInit = {}): BackendInit {
  return {
    metadata: service(),
    queue: { capacity: 100, failfastTimeout: seconds(3) },
    kind: {
      case: "balancer",
      value: {
        discovery: { kind: { case: "dst", value: { path } } },
        load: { case: "peakEwma", value: { defaultRtt: seconds(0.03), decay: seconds(10) } },
      },
    },
    ...more,
  };
}

export const only = (backend: BackendInit) => ({
  kind: { case: "firstAvailable" as const, value: { backends: [{ backend }] } },
});

export const httpRule = (more: HttpRuleInit = {}): HttpRuleInit => ({
  matches: [{ path: { kind: { case: "prefix", value: "/" } } }],
  backends: only(balancer()),
  ...more,
});

export function httpRoutes(...rules: HttpRuleInit[]) {
  return { routes: [{ metadata: defaultMeta("http"), rules }] };
}

export function opaqueRoutes(backend = balancer()) {
  return { routes: [{ metadata: defaultMeta("opaq"), rules: [{ backends: only(backend) }] }] };
}

/** What a Service without routes gets. */
export function servicePolicy(rule: HttpRuleInit = httpRule()): PolicyInit {
  return {
    metadata: service(),
    protocol: {
      kind: {
        case: "detect",
        value: {
          timeout: seconds(10),
          http1: httpRoutes(rule),
          http2: httpRoutes(rule),
          opaque: opaqueRoutes(),
        },
      },
    },
  };
}

export const outboundPolicy = (init: PolicyInit) => create(outbound.OutboundPolicySchema, init);

/* ---- destination ---- */

export const IDENTITY = "web.shop.serviceaccount.identity.linkerd.cluster.local";

/** A meshed pod in transport-header mode. */
export const podAddr = (ip: string, more: WeightedAddrInit = {}): WeightedAddrInit => ({
  addr: tcpAddress(ip, 8080),
  weight: 10_000,
  metricLabels: { pod: `pod-${ip}` },
  tlsIdentity: {
    strategy: { case: "dnsLikeIdentity", value: { name: IDENTITY } },
    serverName: { name: IDENTITY },
  },
  protocolHint: { protocol: { case: "h2", value: {} }, opaqueTransport: { inboundPort: 4143 } },
  ...more,
});

export const weightedAddr = (init: WeightedAddrInit) => create(destination.WeightedAddrSchema, init);

export const add = (...addrs: WeightedAddrInit[]): UpdateInit => ({
  update: { case: "add", value: { addrs, metricLabels: { service: "web", namespace: "shop" } } },
});

export const remove = (...ips: string[]): UpdateInit => ({
  update: { case: "remove", value: { addrs: ips.map((ip) => tcpAddress(ip, 8080)) } },
});

export const noEndpoints = (exists: boolean): UpdateInit => ({ update: { case: "noEndpoints", value: { exists } } });

export const update = (init: UpdateInit) => create(destination.UpdateSchema, init);

export const profile = (init: ProfileInit) => create(destination.DestinationProfileSchema, init);
