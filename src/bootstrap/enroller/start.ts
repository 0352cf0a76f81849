import { randomBytes } from "node:crypto";
import type { AddressInfo } from "node:net";
import type { Cidr } from "../../proxy/core/address.ts";
import type { Millis } from "../../proxy/core/clock.ts";
import { TRANSPORT_ALPN } from "../../proxy/wire/transport-header/index.ts";
import {
  destinationName,
  enrollerName,
  every,
  type Log,
  MeshGrpcServer,
  realScheduler,
  type Scheduler,
  silentLog,
} from "../control/index.ts";
import { Attachments } from "./attach.ts";
import { GroupSync } from "./group-sync.ts";
import { sweepInvitations } from "./invitation.ts";
import { LIFETIME_LIMITS } from "./issuer.ts";
import type { KubeClient } from "./kubernetes.ts";
import { Leader } from "./leader.ts";
import type { LivenessOptions } from "./liveness.ts";
import { Mesh } from "./mesh.ts";
import { OwnIdentity } from "./own-identity.ts";
import { PassThrough } from "./pass-through.ts";
import { ENROLL_LIMIT, RateLimit, type RateLimitOptions } from "./rate-limit.ts";
import { RefusalRecord } from "./refusal-record.ts";
import { Registrar } from "./registrar.ts";
import { Resolver } from "./resolve.ts";
import { EnrollerService } from "./service.ts";
import { serviceNetworks } from "./service-networks.ts";

export interface EnrollerOptions {
  readonly client: KubeClient;
  readonly listen: { readonly host: string; readonly port: number } | { readonly fd: number };
  /** `MAJOR.MINOR.PATCH` of this program. */
  readonly version: string;
  /** Namespace of the control plane, and the enroller's own. `linkerd` unless told. */
  readonly namespace?: string;
  /** `linkerd-identity-issuer` unless told. */
  readonly issuerSecret?: string;
  /** Of certificates: 1 h to 30 days, 24 h unless told. */
  readonly lifetimeMs?: Millis;
  /** CIDRs that hosts capture; absent: what the API publishes as networks of Services. */
  readonly captureNetworks?: readonly string[];
  /** Networks of balancers that speak PROXY protocol; empty: everybody who connects does. */
  readonly balancers?: readonly Cidr[];
  readonly trustDomain?: string;
  readonly clusterDomain?: string;
  /** Declare port 4191 in every workload. True unless told. */
  readonly metricsPort?: boolean;
  /** 24 h unless told. */
  readonly gcAfterMs?: Millis;
  /** 3 s unless told. */
  readonly heartbeatMs?: Millis;
  readonly liveness?: LivenessOptions;
  readonly enrollLimit?: RateLimitOptions;
  /** How long clients are given to let go of a withdrawn host: 1 to 10 s unless told. */
  readonly settleMs?: { readonly min: Millis; readonly max: Millis };
  /** Port of the destination pods for the pass-through: 4143 unless told. */
  readonly passThroughPort?: number;
  readonly scheduler?: Scheduler;
  readonly log?: Log;
}

export interface RunningEnroller {
  readonly address: AddressInfo;
  /** For metrics: hosts attached to this replica, and those of them that are silent and held. */
  hosts(): { readonly attached: number; readonly held: number };
  /** Sends hosts to other replicas, lets calls end for `graceMs`, then stops. */
  stop(graceMs?: Millis): Promise<void>;
}

/**
 * Starts an enroller.
 * @throws Error, one line, if the mesh cannot be read or the address is taken.
 */
export async function startEnroller(options: EnrollerOptions): Promise<RunningEnroller> {
  const { client, version, scheduler = realScheduler, log = silentLog, namespace = "linkerd" } = options;
  const lifetimeMs = options.lifetimeMs ?? LIFETIME_LIMITS.defaultMs;
  if (lifetimeMs < LIFETIME_LIMITS.minMs || lifetimeMs > LIFETIME_LIMITS.maxMs) {
    throw new Error("the lifetime of certificates must be 1 h to 30 days");
  }
  const captureNetworks = options.captureNetworks ?? (await serviceNetworks(client));
  if (captureNetworks.length === 0)
    log.warn({}, "no networks to capture: hosts will not send anything through the mesh");
  const mesh = new Mesh({
    client,
    scheduler,
    log,
    namespace,
    issuerSecret: options.issuerSecret ?? "linkerd-identity-issuer",
    captureNetworks,
    ...(options.trustDomain !== undefined && { trustDomain: options.trustDomain }),
    ...(options.clusterDomain !== undefined && { clusterDomain: options.clusterDomain }),
  });
  await mesh.start();
  const own = new OwnIdentity(mesh, scheduler, log, (identity) => server.setIdentity(identity));
  const registrar = new Registrar({
    client,
    scheduler,
    log,
    mesh: mesh.names,
    settleMinMs: options.settleMs?.min ?? 1000,
    settleMaxMs: options.settleMs?.max ?? 10_000,
  });
  const replica = `enroller-${randomBytes(6).toString("hex")}`;
  const refusals = new RefusalRecord({ log, scheduler, shun: (peer, ms) => server.shun(peer, ms) });
  const leader = new Leader({ client, scheduler, log, namespace, replica });
  const groups = new GroupSync({ client, scheduler, log, registrar, leads: () => leader.leads() });
  const attachments = new Attachments({
    client,
    refusals,
    scheduler,
    log,
    mesh,
    registrar,
    namespace,
    version,
    replica,
    heartbeatMs: options.heartbeatMs ?? 3000,
    gcAfterMs: options.gcAfterMs ?? 86_400_000,
    ...(options.liveness !== undefined && { liveness: options.liveness }),
  });
  const service = new EnrollerService({
    client,
    scheduler,
    log,
    mesh,
    registrar,
    attachments,
    resolver: new Resolver(client),
    refusals,
    limit: new RateLimit(options.enrollLimit ?? ENROLL_LIMIT),
    namespace,
    version,
    lifetimeMs,
    metricsPort: options.metricsPort ?? true,
  });
  const through = new PassThrough({
    pods: () => mesh.destinationPods(),
    log,
    connectTimeoutMs: 3000,
    maxConnections: 8192,
    maxPerSource: 2048,
    ...(options.passThroughPort !== undefined && { port: options.passThroughPort }),
  });
  const ourName = enrollerName(mesh.names);
  const theirName = destinationName(mesh.names);
  const server = new MeshGrpcServer({
    identity: await own.start(),
    services: (grpc) => service.register(grpc),
    log,
    turnedAway: (what, peer, message) => refusals.refused(what, peer, { code: "request-refused", message }),
    ...(options.balancers !== undefined && { balancers: options.balancers }),
    route: ({ serverName, alpn }, socket) => {
      if (serverName === ourName) return "terminate";
      if (serverName !== theirName || !alpn.includes(TRANSPORT_ALPN)) return "refuse";
      through.carry(socket);
      return "taken";
    },
  });
  attachments.start();
  leader.start();
  groups.start();
  const sweeping = every(scheduler, 3_600_000, () => {
    sweepInvitations(client, namespace, scheduler.wallMs()).catch((error: unknown) =>
      log.warn({ error: String(error) }, "could not sweep invitations"),
    );
  });
  const halt = (): void => {
    sweeping();
    groups.stop();
    leader.stop();
    attachments.stop();
    registrar.stop();
    own.stop();
    mesh.stop();
    through.close();
  };
  try {
    const address = await server.listen(options.listen);
    log.info({ ...address, name: ourName }, "enroller listens");
    return {
      address,
      hosts: () => attachments.counts(),
      stop: async (graceMs = 2000) => {
        halt();
        await server.close(graceMs);
      },
    };
  } catch (error) {
    halt();
    throw error;
  }
}
