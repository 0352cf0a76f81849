import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Server, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import {
  Enroller,
  type EnrollRequest,
  type EnrollResponseSchema,
  type RenewRequest,
  type RenewResponseSchema,
  type ResolveRequest,
  type ResolveResponseSchema,
} from "../../proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import { grpcService } from "../../proto/grpc.ts";
import type { Millis } from "../../proxy/core/clock.ts";
import {
  BootstrapError,
  compatible,
  encodeConfiguration,
  identityName,
  identityUri,
  type Log,
  type Peer,
  parseIdentityName,
  peerOf,
  pemToDer,
  refusalOf,
  type Scheduler,
  shownVersion,
  type WorkloadName,
} from "../control/index.ts";
import { readWorkload } from "./apply.ts";
import { type AttachCall, type Attachments, cloneOf } from "./attach.ts";
import { REPLAY_MS, type Redeemed, redeem } from "./invitation.ts";
import { recordIssue } from "./issue-record.ts";
import { type ProvenKey, verifyRequest } from "./issuer.ts";
import type { KubeClient } from "./kubernetes.ts";
import type { Mesh } from "./mesh.ts";
import { type Claim, placeOf, takePlace } from "./place.ts";
import { planRegistration, type Registration, readRegistration, withCertificate, workloadNameOf } from "./plan.ts";
import { RateLimit, RESOLVE_LIMIT, SIGNATURE_LIMIT } from "./rate-limit.ts";
import type { RefusalRecord } from "./refusal-record.ts";
import type { Registrar } from "./registrar.ts";
import { RESOLVE_TTL_SECONDS, type Resolver } from "./resolve.ts";
import type { InvitationTerms } from "./terms.ts";

/** A host whose clock is further off cannot tell a valid certificate from an expired one. */
const MAX_SKEW_MS = 300_000;

export interface EnrollerServiceOptions {
  readonly client: KubeClient;
  readonly scheduler: Scheduler;
  readonly log: Log;
  readonly mesh: Mesh;
  readonly registrar: Registrar;
  readonly attachments: Attachments;
  readonly resolver: Resolver;
  readonly limit: RateLimit;
  readonly refusals: RefusalRecord;
  readonly namespace: string;
  readonly version: string;
  readonly lifetimeMs: Millis;
  /** Declare port 4191 in new workloads. */
  readonly metricsPort: boolean;
}

/** The four calls of the enroller. What they refuse, they refuse with a {@link BootstrapError}. */
export class EnrollerService {
  readonly #options: EnrollerServiceOptions;
  readonly #signatures = new RateLimit(SIGNATURE_LIMIT);
  readonly #names = new RateLimit(RESOLVE_LIMIT);

  constructor(options: EnrollerServiceOptions) {
    this.#options = options;
  }

  register(server: Server): void {
    server.addService(grpcService(Enroller), {
      enroll: this.#unary((request: EnrollRequest, peer) => this.enroll(request, peer)),
      renew: this.#unary((request: RenewRequest, peer) => this.renew(request, peer)),
      resolve: this.#unary((request: ResolveRequest, peer) => this.resolve(request, peer)),
      attach: (call: AttachCall) => this.#options.attachments.open(call, peerOf(call)),
    });
  }

  async enroll(request: EnrollRequest, peer: Peer): Promise<MessageInitShape<typeof EnrollResponseSchema>> {
    const { client, scheduler, mesh, limit, namespace, version } = this.#options;
    if (!limit.admit(peer.address, scheduler.now())) {
      throw new BootstrapError("rate-limited", `too many attempts from ${peer.address}`);
    }
    this.#checkVersion(request.version);
    const machine = request.host?.machine ?? "";
    if (!/^[0-9a-f]{64}$/.test(machine)) throw new BootstrapError("request-refused", "the machine id is not a SHA-256");
    const wallMs = scheduler.wallMs();
    // Before a use is spent: a certificate would be useless to this host.
    const skewMs = Number(request.host?.wallMs ?? 0n) - wallMs;
    if (Math.abs(skewMs) > MAX_SKEW_MS) {
      const minutes = Math.round(Math.abs(skewMs) / 60_000);
      const direction = skewMs > 0 ? "ahead of" : "behind";
      throw new BootstrapError(
        "clock-skew",
        `this host's clock is ${minutes} min ${direction} the enroller's, which says ${new Date(wallMs).toISOString()}`,
      );
    }
    const key = await verifyRequest(request.csr);
    const attempt = {
      id: request.invitationId,
      secret: request.secret,
      key: key.fingerprint,
      machine,
      address: peer.address,
      wallMs,
    };
    const claim = {
      key: key.fingerprint,
      address: peer.address,
      hostname: request.host?.hostname ?? "",
      invitation: request.invitationId,
      wallMs,
    };
    let place: "admitted" | "pending" | undefined;
    const { terms, group } = await redeem(client, namespace, attempt, {
      before: async (granted) => {
        await this.#approve(granted.terms, request.invitationId, machine);
        if (granted.group !== undefined) place = await this.#place(granted.terms, machine, claim);
      },
      waits: async (granted) => hasWaited(granted, machine, claim),
    });
    request.secret.fill(0);
    // Only now that the use is spent: whoever waits has spent it, and does not spend another by asking again.
    if (group !== undefined && (place ?? (await this.#place(terms, machine, claim))) === "pending") {
      const { namespace: home, name } = workloadNameOf(terms, machine);
      throw new BootstrapError("approval-pending", `${home}/${name} waits for the approval of an administrator`);
    }
    const { metricsPort } = this.#options;
    const registration = planRegistration(
      terms,
      request.invitationId,
      machine,
      key.fingerprint,
      metricsPort,
      group?.metadata.name,
    );
    const { workload } = registration;
    const certificate = await this.#issue(key, workload, () => registration);
    this.#record(workload, certificate, "enrolled", peer);
    return {
      version,
      certificate,
      trustAnchors: { roots: mesh.trustAnchorsPem.map(pemToDer) },
      configuration: encodeConfiguration(mesh.configurationFor(registration)),
      wallMs: BigInt(scheduler.wallMs()),
    };
  }

  async renew(request: RenewRequest, peer: Peer): Promise<MessageInitShape<typeof RenewResponseSchema>> {
    const { attachments, scheduler, mesh } = this.#options;
    this.#checkVersion(request.version);
    const registration = await attachments.authenticate(peer, request.namespace, request.name);
    // One certificate on two machines: the second would renew the first one's key away. Older agents do not say.
    if (request.machine !== "" && request.machine !== registration.machine) throw cloneOf(registration.workload);
    if (!this.#signatures.admit(`${request.namespace}/${request.name}`, scheduler.now())) {
      throw new BootstrapError("rate-limited", `${request.namespace}/${request.name} renews too often`);
    }
    const key = await verifyRequest(request.csr);
    const certificate = await this.#issue(key, registration.workload, (latest) => {
      if (latest !== undefined && latest.revoked === undefined) return latest;
      throw new BootstrapError("unknown-workload", `${request.namespace}/${request.name} is gone from the cluster`);
    });
    this.#record(registration.workload, certificate, "renewed", peer);
    return {
      certificate,
      trustAnchors: { roots: mesh.trustAnchorsPem.map(pemToDer) },
      wallMs: BigInt(scheduler.wallMs()),
    };
  }

  async resolve(request: ResolveRequest, peer: Peer): Promise<MessageInitShape<typeof ResolveResponseSchema>> {
    const { resolver, mesh, scheduler, attachments } = this.#options;
    const { certificate } = peer;
    if (certificate === undefined || parseIdentityName(peer.identity ?? "", mesh.names) === undefined) {
      throw new BootstrapError("no-identity", "this call needs a certificate of this mesh");
    }
    if (attachments.isRevoked(certificate)) throw new BootstrapError("revoked", "this host was revoked");
    if (!this.#names.admit(certificate.fingerprint256.replaceAll(":", ""), scheduler.now())) {
      throw new BootstrapError("rate-limited", `${peer.identity} asks for too many names`);
    }
    const { exists, addresses, services } = await resolver.resolve(request.name, mesh.clusterDomain, scheduler.now());
    return { exists, addresses: [...addresses], services: [...services], ttlSeconds: RESOLVE_TTL_SECONDS };
  }

  /** Whether the name that the terms give to this machine is free for it. Runs before the use is spent. */
  async #approve(terms: InvitationTerms, invitation: string, machine: string): Promise<void> {
    const { client, attachments } = this.#options;
    const { namespace, name } = workloadNameOf(terms, machine);
    const key = `${namespace}/${name}`;
    const existing = await readWorkload(client, namespace, name);
    if (existing === undefined) return;
    const registration = readRegistration(existing);
    if (registration === undefined || registration.machine !== machine) {
      throw new BootstrapError("workload-taken", `the ExternalWorkload ${key} exists and belongs to somebody else`);
    }
    if (registration.revoked !== undefined && registration.invitation === invitation) {
      throw new BootstrapError("revoked", `${key} was revoked: ${registration.revoked}`);
    }
    // A copied disk with a copied machine id would otherwise take the name from its original.
    if (attachments.isAttached(key)) {
      throw new BootstrapError("clone", `a machine with the same machine id is attached as ${key} right now`);
    }
  }

  /** A place in the group, for the workload that this machine would be. */
  #place(terms: InvitationTerms, machine: string, claim: Omit<Claim, "name">): Promise<"admitted" | "pending"> {
    const { name } = workloadNameOf(terms, machine);
    return takePlace(this.#options.client, terms.namespace, terms.name, { ...claim, name });
  }

  /**
   * Signs, and remembers the key before the certificate leaves: whatever the host holds must work.
   * @param change - What is registered beside the key.
   */
  async #issue(
    key: ProvenKey,
    workload: WorkloadName,
    change: (latest: Registration | undefined) => Registration,
  ): Promise<{ chain: Buffer[] }> {
    const { mesh, scheduler, lifetimeMs, registrar } = this.#options;
    const names = {
      dns: identityName(workload.serviceAccount, workload.namespace, mesh.names),
      uri: identityUri(workload.serviceAccount, workload.namespace, mesh.names),
    };
    const { chain, notAfterMs } = await mesh.issuer.issue(key, names, lifetimeMs, scheduler.wallMs());
    await registrar.register(workload, (latest) => withCertificate(change(latest), key.fingerprint, notAfterMs));
    return { chain: [...chain] };
  }

  #record(
    workload: WorkloadName,
    { chain }: { readonly chain: readonly Buffer[] },
    why: "enrolled" | "renewed",
    peer: Peer,
  ): void {
    const { client, log, scheduler, namespace } = this.#options;
    const options = { client, log, wallMs: scheduler.wallMs(), namespace };
    if (chain[0] !== undefined) recordIssue(options, workload, chain[0], why, peer.address);
  }

  #checkVersion(theirs: string): void {
    const { version } = this.#options;
    if (compatible(version, theirs)) return;
    throw new BootstrapError(
      "version-skew",
      `agent ${shownVersion(theirs)} and enroller ${version} do not fit together`,
    );
  }

  #unary<I extends MessageShape<DescMessage>, O>(handle: (request: I, peer: Peer) => Promise<O>) {
    return (call: ServerUnaryCall<I, O>, callback: sendUnaryData<O>): void => {
      let peer: Peer;
      try {
        peer = peerOf(call);
      } catch (error) {
        callback(refusalOf(error));
        return;
      }
      handle(call.request, peer).then(
        (answer) => callback(null, answer),
        (error: unknown) => {
          const { log, refusals } = this.#options;
          if (error instanceof BootstrapError) {
            refusals.refused(call.getPath(), peer, error, invitationOf(call.request));
          } else {
            log.error({ call: call.getPath(), error: String(error) }, "call failed");
          }
          callback(refusalOf(error));
        },
      );
    };
  }
}

/** Which string was used, where one was: its id is no secret. */
function invitationOf(request: MessageShape<DescMessage>): Readonly<Record<string, string>> {
  const id = "invitationId" in request ? String(request.invitationId) : "";
  return /^[0-9a-f]{10}$/.test(id) ? { invitation: id } : {};
}

/** Whether a host was told to wait with this key, and nobody has decided, or only a moment ago. */
function hasWaited({ terms, group }: Redeemed, machine: string, { key, wallMs }: Omit<Claim, "name">): boolean {
  const place = group && placeOf(group, workloadNameOf(terms, machine).name, key);
  return place !== undefined && (place.state === "Pending" || wallMs - Date.parse(place.since) < REPLAY_MS);
}
