import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { parseCidr } from "../../proxy/core/address.ts";
import type { Logger } from "../../proxy/core/log.ts";
import type { Authority, Credentials } from "../pki.ts";
import { type Cluster, DEFAULT_OPAQUE_PORTS, type DefaultPolicy, serviceAccountIdentity } from "./cluster.ts";
import { addDestination } from "./destination.ts";
import { DIRECT_ALPN, readDirectHeader } from "./direct.ts";
import { addIdentity, type TokenReview } from "./identity.ts";
import { type MeshIdentity, MeshListener } from "./mesh-listener.ts";
import { addPolicy } from "./policy.ts";
import type { ClusterStore } from "./store.ts";

/** The ports of a control plane's pods: what clients dial, and what a transport header names. */
const SERVICE_PORTS = { identity: 8080, destination: 8086, policy: 8090 } as const;

/** The chart's `clusterNetworks`. */
export const DEFAULT_CLUSTER_NETWORKS = [
  "10.0.0.0/8",
  "100.64.0.0/10",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "fd00::/8",
] as const;

/** Who issues, and who is believed. */
export interface LinkerdPki {
  readonly issuer: Authority;
  readonly trustAnchorsPem: readonly string[];
}

export interface LinkerdOptions {
  readonly store: ClusterStore;
  readonly pki: LinkerdPki;
  /** The API server's TokenReview; no audiences means its own. */
  readonly review: (token: string, audiences: readonly string[]) => TokenReview;
  /** Ports of 0 take free ones. */
  readonly listen: {
    readonly host: string;
    readonly identityPort: number;
    readonly destinationPort: number;
    readonly policyPort: number;
    /** The proxy port, 4143 in a pod: all services, by the port in the transport header. */
    readonly inboundPort: number;
  };
  /** `cluster.local` unless told. */
  readonly clusterDomain?: string;
  /** The cluster domain unless told. */
  readonly trustDomain?: string;
  /** `linkerd` unless told. */
  readonly controlPlaneNamespace?: string;
  /** {@link DEFAULT_CLUSTER_NETWORKS} unless told. */
  readonly clusterNetworks?: readonly string[];
  /** `all-unauthenticated` unless told. */
  readonly defaultInboundPolicy?: DefaultPolicy;
  /** {@link DEFAULT_OPAQUE_PORTS} unless told. */
  readonly defaultOpaquePorts?: string;
  /** True unless told: clients reach meshed endpoints through their proxy port. */
  readonly transportHeader?: boolean;
  /** Of workload certificates; 24 h unless told. */
  readonly issuanceLifetimeMs?: number;
  /** Wall clock, Unix milliseconds. */
  readonly now?: () => number;
  readonly log?: Logger;
}

/** The names of the listeners. */
export type Role = "identity" | "destination" | "policy" | "inbound";

/** A running control plane. */
export interface Linkerd {
  readonly addresses: Readonly<Record<Role, AddressInfo>>;
  /** TLS name of the identity service. */
  readonly identityName: string;
  /** TLS name of the destination and policy services. */
  readonly destinationName: string;
  /** Cuts a listener's connections and refuses new ones, as if its pod were killed. All of them unless told. */
  kill(role?: Role): Promise<void>;
  /** Brings a killed listener back on its old port. All of them unless told. */
  restart(role?: Role): Promise<void>;
  /** New issuer, new anchors: for what is issued, shown and believed from now on. */
  setPki(pki: LinkerdPki): Promise<void>;
  /** Takes the issuer away (Certify then answers Unavailable) until {@link setPki}. */
  loseIssuer(): void;
  close(): Promise<void>;
}

/**
 * Starts the gRPC services of a Linkerd control plane behind mesh TLS.
 *
 * @throws Error for cluster networks that are none, and for ports that cannot be had.
 */
export async function startLinkerd(options: LinkerdOptions): Promise<Linkerd> {
  const cluster = clusterOf(options);
  const { controlPlaneNamespace: home, trustDomain } = cluster;
  const identityName = serviceAccountIdentity(cluster, home, "linkerd-identity");
  const destinationName = serviceAccountIdentity(cluster, home, "linkerd-destination");
  let issuer: Authority | undefined = options.pki.issuer;

  const services = {
    identity: new GrpcService((server) =>
      addIdentity(server, {
        issuer: () => issuer,
        review: options.review,
        controlPlaneNamespace: home,
        trustDomain,
        lifetimeMs: options.issuanceLifetimeMs ?? 86_400_000,
        skewMs: 20_000,
        now: options.now ?? Date.now,
      }),
    ),
    destination: new GrpcService((server) => addDestination(server, cluster)),
    policy: new GrpcService((server) => addPolicy(server, cluster)),
  };

  const names: Readonly<Record<Role, readonly string[]>> = {
    identity: [identityName],
    destination: [destinationName],
    policy: [destinationName],
    inbound: [identityName, destinationName],
  };
  let credentials = await credentialsOf(options.pki, [identityName, destinationName]);
  const identityFor = (role: Role, { trustAnchorsPem }: LinkerdPki): MeshIdentity => ({
    byName: new Map(names[role].map((name) => [name, credentials.get(name) as Credentials])),
    trustAnchorsPem,
  });

  const { host } = options.listen;
  const plain = (role: "identity" | "destination" | "policy", port: number): MeshListener =>
    new MeshListener({
      host,
      port,
      requireCertificate: false,
      identity: identityFor(role, options.pki),
      onSecured: (socket) => services[role].serve(socket),
    });
  const listeners: Readonly<Record<Role, MeshListener>> = {
    identity: plain("identity", options.listen.identityPort),
    destination: plain("destination", options.listen.destinationPort),
    policy: plain("policy", options.listen.policyPort),
    inbound: new MeshListener({
      host,
      port: options.listen.inboundPort,
      alpn: DIRECT_ALPN,
      requireCertificate: true,
      identity: identityFor("inbound", options.pki),
      onSecured: (socket, serverName) =>
        readDirectHeader(socket, ({ port, name }) => {
          const role = directTarget(port, serverName === identityName);
          // A name asks for a gateway, which these pods are not.
          if (role === undefined || name !== "") socket.destroy();
          else services[role].serve(socket);
        }),
    }),
  };

  const roles = Object.keys(listeners) as readonly Role[];
  const addresses: Partial<Record<Role, AddressInfo>> = {};
  const close = async (): Promise<void> => {
    await Promise.all(roles.map((role) => listeners[role].kill()));
    for (const service of Object.values(services)) service.close();
  };
  try {
    for (const role of roles) addresses[role] = await listeners[role].start();
  } catch (error) {
    await close();
    throw error;
  }
  options.log?.info("control plane started", { host, inboundPort: addresses.inbound?.port });

  return {
    addresses: addresses as Record<Role, AddressInfo>,
    identityName,
    destinationName,
    async kill(role) {
      await Promise.all((role === undefined ? roles : [role]).map((each) => listeners[each].kill()));
    },
    async restart(role) {
      await Promise.all((role === undefined ? roles : [role]).map((each) => listeners[each].start()));
    },
    async setPki(pki) {
      credentials = await credentialsOf(pki, [identityName, destinationName]);
      issuer = pki.issuer;
      for (const role of roles) listeners[role].setIdentity(identityFor(role, pki));
    },
    loseIssuer() {
      issuer = undefined;
    },
    close,
  };
}

/** The services that a pod has behind its proxy: its own, and no other pod's. */
function directTarget(port: number, isIdentityPod: boolean): keyof typeof SERVICE_PORTS | undefined {
  if (isIdentityPod) return port === SERVICE_PORTS.identity ? "identity" : undefined;
  if (port === SERVICE_PORTS.destination) return "destination";
  return port === SERVICE_PORTS.policy ? "policy" : undefined;
}

/** A grpc-js server without a port of its own. */
class GrpcService {
  readonly #server = new Server();
  readonly #injector: ReturnType<Server["createConnectionInjector"]>;

  constructor(register: (server: Server) => void) {
    register(this.#server);
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
  }

  serve(socket: TLSSocket): void {
    // Node's HTTP/2 server refuses a TLS socket without this ALPN; the mesh's clients know beforehand what is spoken.
    socket.alpnProtocol = "h2";
    this.#injector.injectConnection(socket);
  }

  close(): void {
    this.#injector.destroy();
    this.#server.forceShutdown();
  }
}

/** Certificates for the pods, as long-lived as the issuer: they are not renewed, and nobody looks at how old they are. */
async function credentialsOf(
  { issuer }: LinkerdPki,
  names: readonly string[],
): Promise<ReadonlyMap<string, Credentials>> {
  const { validFromDate, validToDate } = issuer.certificate;
  const validity = { notBeforeMs: validFromDate.getTime(), notAfterMs: validToDate.getTime() };
  const pairs = names.map(async (name) => [name, await issuer.issue({ dns: [name] }, validity)] as const);
  return new Map(await Promise.all(pairs));
}

function clusterOf(options: LinkerdOptions): Cluster {
  const clusterDomain = options.clusterDomain ?? "cluster.local";
  return {
    store: options.store,
    clusterDomain,
    trustDomain: options.trustDomain ?? clusterDomain,
    controlPlaneNamespace: options.controlPlaneNamespace ?? "linkerd",
    clusterNetworks: (options.clusterNetworks ?? DEFAULT_CLUSTER_NETWORKS).map((text) => {
      const network = parseCidr(text);
      if (network === undefined) throw new Error(`not a network: ${text}`);
      return network;
    }),
    defaultInboundPolicy: options.defaultInboundPolicy ?? "all-unauthenticated",
    defaultOpaquePorts: options.defaultOpaquePorts ?? DEFAULT_OPAQUE_PORTS,
    transportHeader: options.transportHeader ?? true,
    globalEgressNamespace: "linkerd-egress",
  };
}
