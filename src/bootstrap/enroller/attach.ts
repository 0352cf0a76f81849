import type { X509Certificate } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import {
  type EnrollerMessageSchema,
  type Heartbeat,
  type Hello,
  type HostMessage,
  Order_Kind,
} from "../../proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import type { Millis } from "../../proxy/core/clock.ts";
import {
  BootstrapError,
  compatible,
  encodeConfiguration,
  every,
  keyFingerprint,
  type Log,
  type Peer,
  parseIdentityName,
  pemToDer,
  printable,
  refusalOf,
  type Scheduler,
  shownVersion,
  validity,
} from "../control/index.ts";
import { usableAddresses } from "./address.ts";
import { readWorkload } from "./apply.ts";
import type { Issuer } from "./issuer.ts";
import type { KubeClient } from "./kubernetes.ts";
import { LEASE_DURATION_MS, LEASE_RENEW_MS, Leases } from "./lease.ts";
import { type HostSigns, judge, LIVENESS, type LivenessOptions } from "./liveness.ts";
import type { Mesh } from "./mesh.ts";
import { MANAGED, type Readiness, type Registration, readRegistration } from "./plan.ts";
import { HOST_LIMIT, MESSAGE_LIMIT, RateLimit, type RateLimitOptions } from "./rate-limit.ts";
import type { RefusalRecord } from "./refusal-record.ts";
import type { Reached, Registrar } from "./registrar.ts";
import { EXTERNAL_WORKLOADS, type ExternalWorkload, isReady, readyCondition } from "./resources.ts";

export type AttachCall = ServerDuplexStream<HostMessage, MessageInitShape<typeof EnrollerMessageSchema>>;

export interface AttachmentsOptions {
  readonly client: KubeClient;
  readonly scheduler: Scheduler;
  readonly log: Log;
  readonly mesh: Mesh;
  readonly registrar: Registrar;
  readonly refusals: RefusalRecord;
  /** The enroller's own namespace, for leases. */
  readonly namespace: string;
  readonly replica: string;
  readonly version: string;
  /** How often hosts are to speak. */
  readonly heartbeatMs: Millis;
  /** A host that has been gone for longer is deleted. */
  readonly gcAfterMs: Millis;
  readonly liveness?: LivenessOptions;
}

/** One host, as long as this replica answers for it: also for a while after its stream broke. */
interface Session {
  readonly key: string;
  readonly machine: string;
  readonly peer: Peer;
  registration: Registration;
  call: AttachCall | undefined;
  heardAt: Millis;
  /** What was wished last, so that a heartbeat that says nothing new costs nothing. */
  wished: string;
  sentConfiguration: string;
  sentAnchors: readonly string[];
  /** It said goodbye: its silence is no news. */
  leaving: boolean;
  held: boolean;
  /** Drops a change that waits for its turn. */
  cancelDeferred: () => void;
  /** The issuer of the host's present certificate, or the one under which it was told to renew. */
  issuer: Issuer | undefined;
}

// Signing for a host costs the API two writes: so many hosts a second, and never more than this long for all.
const RENEWALS_PER_SECOND = 20;
const MAX_RENEWAL_SPREAD_MS = 300_000;

// A host that does not read what it is told must not make us keep it.
const MAX_UNREAD = 64;
// Of what a host says about itself.
const MAX_REASON = 256;
const MAX_MESSAGE = 1024;
const MAX_NAME = 80;

const SWEEP_MS = 1000;

const CHANGE_LIMIT: RateLimitOptions = { burst: 6, refillMs: 1000, maxSources: 20_000 };

/**
 * Everything that is attached: admits streams, listens for heartbeats, tells hosts what changed, and withdraws the
 * readiness of those that fell silent — here, or at a replica that died.
 *
 * ```text
 *            Hello, admitted          silence           judged
 *   (none) ────────────────► heard ───────────► silent ────────► Ready=False, forgotten
 *                              ▲  │ stream broke    │ Hello
 *                              │  ▼                 │
 *                              └─ (same) ◄──────────┘     Leave ──► Ready=False, settled ──► order LEFT
 * ```
 */
export class Attachments {
  readonly #options: AttachmentsOptions;
  readonly #liveness: LivenessOptions;
  readonly #sessions = new Map<string, Session>();
  /** Ours in the cluster, by key; when it was first seen Ready without anybody answering for it. */
  readonly #workloads = new Map<string, { object: ExternalWorkload; orphanSince: Millis | undefined }>();
  readonly #leases: Leases;
  readonly #changes = new RateLimit(CHANGE_LIMIT);
  readonly #calls = new RateLimit(HOST_LIMIT);
  /** Hosts that were given up, and when they were last heard: for as long as others may be judged together with them. */
  readonly #lost = new Map<string, Millis>();
  /** Keys of revoked workloads, by workload. */
  readonly #revoked = new Map<string, readonly string[]>();
  readonly #startedAt: Millis;
  #sweptAt: Millis;
  #stops: (() => void)[] = [];

  constructor(options: AttachmentsOptions) {
    this.#options = options;
    this.#liveness = options.liveness ?? LIVENESS;
    this.#startedAt = options.scheduler.now();
    this.#sweptAt = this.#startedAt;
    this.#leases = new Leases({
      ...options,
      onTaken: (key) => this.#end(key, Order_Kind.SUPERSEDED, "the host attached to another enroller"),
    });
  }

  start(): void {
    const { client, scheduler, mesh, log } = this.#options;
    this.#leases.start();
    this.#stops = [
      client.watch<ExternalWorkload>(
        EXTERNAL_WORKLOADS,
        undefined,
        (event) => {
          if (event.type === "SYNCED") return;
          if (event.object.metadata.labels?.[MANAGED] === undefined) return;
          this.#seen(event.object, event.type === "DELETED");
        },
        (error) => log.warn({ error: error.message }, "cannot watch workloads"),
      ),
      mesh.subscribe(() => {
        for (const session of this.#sessions.values()) {
          this.#inform(session);
          this.#orderRenewal(session);
        }
      }),
      every(scheduler, SWEEP_MS, () => this.#sweep()),
      every(scheduler, LEASE_RENEW_MS, () => void this.#leases.renew()),
      every(scheduler, 60_000, () => this.#collect()),
    ];
  }

  /** Sends every host to another replica, and stops. Their readiness stays: they will be attached again in a moment. */
  stop(): void {
    for (const stop of this.#stops.splice(0)) stop();
    this.#leases.stop();
    for (const session of this.#sessions.values()) {
      this.#send(session, {
        kind: { case: "order", value: { kind: Order_Kind.REATTACH, message: "this enroller ends" } },
      });
      session.call?.end();
    }
    this.#sessions.clear();
  }

  /** Whether a host with this name is attached, here or elsewhere, as far as we know. */
  isAttached(key: string): boolean {
    const now = this.#options.scheduler.now();
    const session = this.#sessions.get(key);
    if (session !== undefined) return !session.leaving && now - session.heardAt < this.#liveness.silenceMs;
    return this.#leases.others().some((other) => other.key === key && now - other.seenAt < LEASE_DURATION_MS);
  }

  /**
   * Whom a caller speaks for, asked of the API server, and not too often for one certificate.
   * @throws BootstrapError
   */
  async authenticate(peer: Peer, namespace: string, name: string): Promise<Registration> {
    const { client, mesh, scheduler } = this.#options;
    const certificate = peer.certificate?.fingerprint256.replaceAll(":", "");
    if (certificate !== undefined && !this.#calls.admit(certificate, scheduler.now())) {
      throw new BootstrapError("rate-limited", `too many calls of ${peer.identity}`);
    }
    return await authenticate(client, mesh, peer, namespace, name, scheduler.wallMs());
  }

  /** Whether a certificate is that of a host that was revoked, as far as our watch has seen. */
  isRevoked(certificate: X509Certificate): boolean {
    if (this.#revoked.size === 0) return false;
    const key = keyFingerprint(certificate);
    return [...this.#revoked.values()].some((keys) => keys.includes(key));
  }

  /** For metrics: hosts that this replica answers for, and those whose silence is held. */
  counts(): { readonly attached: number; readonly held: number } {
    const sessions = [...this.#sessions.values()];
    return { attached: sessions.length, held: sessions.filter(({ held }) => held).length };
  }

  /** Serves one stream. */
  open(call: AttachCall, peer: Peer): void {
    let session: Session | undefined;
    let greeted = false;
    const refuse = (error: unknown) => {
      if (error instanceof BootstrapError) this.#options.refusals.refused(call.getPath(), peer, error);
      else this.#options.log.error({ error: String(error) }, "attach failed");
      // grpc-js ends a stream with the status that its `error` event carries.
      call.emit("error", refusalOf(error));
    };
    const impatience = this.#options.scheduler.after(this.#liveness.silenceMs, () => {
      if (!greeted) refuse(new BootstrapError("request-refused", "the stream did not begin with Hello"));
    });
    const messages = new RateLimit(MESSAGE_LIMIT);
    call.on("data", (message: HostMessage) => {
      if (!greeted) {
        greeted = true;
        impatience();
        if (message.kind.case !== "hello") {
          refuse(new BootstrapError("request-refused", "the stream did not begin with Hello"));
          return;
        }
        const hello = message.kind.value;
        call.pause();
        this.#admit(hello, peer).then((registration) => {
          session = this.#join(registration, hello, call, peer);
          call.resume();
        }, refuse);
        return;
      }
      if (session === undefined || session.call !== call) return;
      if (!messages.admit("", this.#options.scheduler.now())) {
        session.call = undefined;
        refuse(new BootstrapError("rate-limited", `${session.key} sends too many messages`));
        return;
      }
      session.heardAt = this.#options.scheduler.now();
      if (session.held) {
        session.held = false;
        // Said again, in place of the word that it is held.
        session.wished = "";
      }
      switch (message.kind.case) {
        case "heartbeat":
          if (!session.leaving) this.#state(session, message.kind.value, peer);
          break;
        case "leave":
          this.#leave(session, message.kind.value.delete);
          break;
        default:
          break;
      }
    });
    const over = () => {
      impatience();
      if (session?.call === call) session.call = undefined;
    };
    call.on("end", () => {
      over();
      call.end();
    });
    call.on("cancelled", over);
    call.on("close", over);
    call.on("error", over);
  }

  /** Judges a Hello. @throws BootstrapError with what is wrong. */
  async #admit(hello: Hello, peer: Peer): Promise<Registration> {
    const { version } = this.#options;
    if (!compatible(version, hello.version)) {
      throw new BootstrapError(
        "version-skew",
        `agent ${shownVersion(hello.version)} and enroller ${version} do not fit together`,
      );
    }
    const registration = await this.authenticate(peer, hello.namespace, hello.name);
    const machine = hello.host?.machine ?? "";
    // One certificate or one name on two machines: a copied disk.
    if (machine !== registration.machine) throw cloneOf(registration.workload);
    return registration;
  }

  #join(registration: Registration, hello: Hello, call: AttachCall, peer: Peer): Session {
    const { scheduler, version, heartbeatMs, log, mesh } = this.#options;
    const { namespace, name } = registration.workload;
    const key = `${namespace}/${name}`;
    // Same machine, newer process: a hot upgrade overlaps, and the newer one wins.
    this.#end(key, Order_Kind.SUPERSEDED, "a newer process of this machine attached");
    const session: Session = {
      key,
      machine: registration.machine,
      peer,
      registration,
      call,
      heardAt: scheduler.now(),
      wished: "",
      sentConfiguration: "",
      sentAnchors: [],
      leaving: false,
      held: false,
      cancelDeferred: () => {},
      issuer: peer.certificate !== undefined && mesh.issuer.signed(peer.certificate) ? mesh.issuer : undefined,
    };
    this.#sessions.set(key, session);
    this.#lost.delete(key);
    log.info({ host: key, address: peer.address, version: shownVersion(hello.version) }, "host attached");
    this.#send(session, {
      kind: {
        case: "welcome",
        value: {
          version,
          heartbeatMs,
          silenceMs: this.#liveness.silenceMs,
          wallMs: BigInt(scheduler.wallMs()),
          observedAddress: peer.address,
        },
      },
    });
    this.#inform(session);
    this.#orderRenewal(session);
    this.#leases
      .hold(key)
      .catch((error: unknown) => log.warn({ host: key, error: String(error) }, "could not write a lease"));
    if (hello.state !== undefined) this.#state(session, hello.state, peer);
    return session;
  }

  #state(session: Session, heartbeat: Heartbeat, peer: Peer): void {
    const addresses = usableAddresses(heartbeat.addresses, peer.address);
    const readiness: Readiness = heartbeat.ready
      ? { ready: true, reason: "Attached", message: "the host is attached and its probes pass" }
      : {
          ready: false,
          reason: heartbeat.reason === "" ? "NotReady" : printable(heartbeat.reason, MAX_REASON),
          message:
            heartbeat.message === "" ? "the host says that it is not ready" : printable(heartbeat.message, MAX_MESSAGE),
        };
    this.#wish(session, readiness, addresses);
  }

  #wish(session: Session, readiness: Readiness, addresses: readonly string[]): void {
    const { scheduler } = this.#options;
    session.cancelDeferred();
    const wished = JSON.stringify([readiness, addresses]);
    if (session.wished === wished) return;
    if (!this.#changes.admit(session.key, scheduler.now())) {
      // A host that flaps is written down at a rhythm that the API server can bear; the newest state wins.
      session.cancelDeferred = scheduler.after(CHANGE_LIMIT.refillMs, () => {
        if (this.#sessions.get(session.key) === session && !session.leaving) this.#wish(session, readiness, addresses);
      });
      return;
    }
    session.wished = wished;
    const { namespace, name } = session.registration.workload;
    this.#options.registrar.wish(namespace, name, { readiness, addresses }, this.#reporter(session));
  }

  #reporter(session: Session): Reached {
    return (state) => {
      this.#send(session, {
        kind: {
          case: "registration",
          value: { ...state, addresses: [...state.addresses] },
        },
      });
    };
  }

  #leave(session: Session, andDelete: boolean): void {
    const { registrar, log } = this.#options;
    const { namespace, name } = session.registration.workload;
    session.leaving = true;
    log.info({ host: session.key, delete: andDelete }, "host leaves");
    const readiness: Readiness = { ready: false, reason: "Left", message: "the host left the mesh" };
    registrar.wish(
      namespace,
      name,
      { readiness, addresses: undefined, finish: andDelete ? "delete" : "settle" },
      (state) => {
        if (this.#sessions.get(session.key) !== session) return;
        this.#reporter(session)(state);
        const message = andDelete ? "the workload is deleted" : "clients have let go";
        this.#send(session, { kind: { case: "order", value: { kind: Order_Kind.LEFT, message } } });
        if (andDelete) this.#forget(session);
      },
    );
  }

  /**
   * After a change of issuer: until hosts have renewed, the old issuer's root must stay among the anchors. Without an
   * order that would be most of a certificate's life.
   */
  #orderRenewal(session: Session): void {
    const { mesh } = this.#options;
    if (session.issuer === mesh.issuer || session.call === undefined) return;
    // The same key and certificate, read again: with new roots, say.
    const same = session.issuer?.sameAs(mesh.issuer) === true;
    session.issuer = mesh.issuer;
    if (same) return;
    const withinMs = Math.min(MAX_RENEWAL_SPREAD_MS, Math.ceil((this.#sessions.size * 1000) / RENEWALS_PER_SECOND));
    const message = "another issuer signs now";
    this.#send(session, { kind: { case: "order", value: { kind: Order_Kind.RENEW, message, withinMs } } });
  }

  /** Tells a host what it has not been told yet. */
  #inform(session: Session): void {
    if (session.call === undefined) return;
    const { mesh } = this.#options;
    const configuration = mesh.configurationFor(session.registration);
    const text = JSON.stringify(configuration);
    if (text !== session.sentConfiguration) {
      session.sentConfiguration = text;
      this.#send(session, { kind: { case: "configuration", value: encodeConfiguration(configuration) } });
    }
    const anchors = mesh.trustAnchorsPem;
    if (anchors !== session.sentAnchors) {
      session.sentAnchors = anchors;
      this.#send(session, { kind: { case: "trustAnchors", value: { roots: anchors.map(pemToDer) } } });
    }
  }

  #send(session: Session, message: MessageInitShape<typeof EnrollerMessageSchema>): void {
    const { call } = session;
    if (call === undefined || !call.writable) return;
    if (call.writableLength < MAX_UNREAD) {
      call.write(message);
      return;
    }
    const error = new BootstrapError("request-refused", `${session.key} does not read what it is told`);
    this.#options.refusals.refused(call.getPath(), session.peer, error);
    session.call = undefined;
    call.emit("error", refusalOf(error));
  }

  #end(key: string, kind: Order_Kind, message: string): void {
    const session = this.#sessions.get(key);
    if (session === undefined) return;
    this.#sessions.delete(key);
    this.#send(session, { kind: { case: "order", value: { kind, message } } });
    session.call?.end();
    session.call = undefined;
  }

  #forget(session: Session): void {
    if (this.#sessions.get(session.key) !== session) return;
    this.#sessions.delete(session.key);
    session.call?.end();
    session.call = undefined;
    this.#leases.release(session.key).catch(() => {
      // It grows old by itself, and the host is not Ready any more.
    });
  }

  /** A workload changed in the cluster: by us, by an administrator, or by another replica. */
  #seen(object: ExternalWorkload, deleted: boolean): void {
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    const session = this.#sessions.get(key);
    if (deleted) {
      this.#workloads.delete(key);
      this.#revoked.delete(key);
      if (session === undefined || session.leaving) return;
      this.#sessions.delete(key);
      session.call?.emit(
        "error",
        refusalOf(new BootstrapError("unknown-workload", `${key} was deleted in the cluster`)),
      );
      this.#leases.release(key).catch(() => {});
      return;
    }
    this.#workloads.set(key, { object, orphanSince: this.#workloads.get(key)?.orphanSince });
    const registration = readRegistration(object);
    if (registration?.revoked === undefined) this.#revoked.delete(key);
    else this.#revoked.set(key, registration.keys);
    if (session === undefined || registration === undefined) return;
    session.registration = registration;
    if (registration.revoked !== undefined) {
      this.#end(key, Order_Kind.SHUTDOWN_IDENTITY, `revoked: ${registration.revoked}`);
      this.#leases.release(key).catch(() => {});
      this.#withdraw(key, { ready: false, reason: "Revoked", message: registration.revoked });
      return;
    }
    this.#inform(session);
    // Somebody else wrote readiness: say again what we know. Nothing is written if it already stands.
    if (!session.leaving && !session.held && session.wished !== "") {
      const [readiness, addresses] = JSON.parse(session.wished) as [Readiness, readonly string[]];
      const { namespace, name } = registration.workload;
      this.#options.registrar.wish(namespace, name, { readiness, addresses }, this.#reporter(session));
    }
  }

  #sweep(): void {
    const { scheduler, log } = this.#options;
    const now = scheduler.now();
    // While we did not listen, nobody was silent: what was said waits to be read. A sweep that is merely late is another
    // thing: on a busy machine each one is, and silence would never come to its end.
    const deafMs = now - this.#sweptAt - SWEEP_MS;
    this.#sweptAt = now;
    if (deafMs >= SWEEP_MS)
      for (const session of this.#sessions.values()) session.heardAt = Math.min(now, session.heardAt + deafMs);
    const signs: HostSigns[] = [];
    for (const session of this.#sessions.values()) {
      if (session.leaving && session.call === undefined) this.#forget(session);
      else if (!session.leaving) signs.push({ key: session.key, heardAt: session.heardAt });
    }
    const others = this.#leases.others();
    // A replica's hosts have the life of a lease to attach again; then they are as silent as our own. A thousand of them
    // come one after the other: while they do, the rest is still on its way.
    const grace = LEASE_DURATION_MS - this.#liveness.silenceMs;
    for (const { key, seenAt, movedAt } of others) signs.push({ key, heardAt: Math.max(seenAt + grace, movedAt) });
    const answered = new Set(signs.map(({ key }) => key));
    for (const [key, known] of this.#workloads) {
      const orphan = isReady(known.object) && !answered.has(key);
      known.orphanSince = orphan ? (known.orphanSince ?? now) : undefined;
      if (known.orphanSince !== undefined) signs.push({ key, heardAt: known.orphanSince + grace });
    }
    const { partitionWindowMs, silenceMs } = this.#liveness;
    for (const [key, heardAt] of this.#lost)
      if (answered.has(key) || now - heardAt > partitionWindowMs + silenceMs) this.#lost.delete(key);
    const lost = [...this.#lost].map(([key, heardAt]) => ({ key, heardAt }));
    const { unreachable, held, why } = judge(signs, lost, this.#startedAt, now, this.#liveness);
    const heardAt = new Map(signs.map((sign) => [sign.key, sign.heardAt]));
    for (const key of unreachable) {
      log.warn({ host: key }, "host is silent; withdrawing its readiness");
      const session = this.#sessions.get(key);
      this.#lost.set(key, heardAt.get(key) ?? now);
      const seconds = Math.round(silenceMs / 1000);
      this.#withdraw(key, { ready: false, reason: "HostUnreachable", message: `nothing heard for ${seconds} s` });
      if (session !== undefined) {
        session.call?.emit("error", refusalOf(new BootstrapError("unreachable", "no heartbeat")));
        this.#forget(session);
      } else {
        this.#leases.release(key).catch(() => {});
      }
    }
    for (const key of held) this.#hold(key, why ?? "");
  }

  /** Says, once, that a host's readiness is kept although it is silent. */
  #hold(key: string, why: string): void {
    const session = this.#sessions.get(key);
    if (session === undefined || session.held) return;
    session.held = true;
    this.#options.log.warn({ host: key, why }, "host is silent, but the fault may be ours; holding its readiness");
    const [readiness] = session.wished === "" ? [] : (JSON.parse(session.wished) as [Readiness]);
    if (readiness?.ready !== true) return;
    const { namespace, name } = session.registration.workload;
    const message = `the host is silent, and so are others (${why}): its readiness is kept for now`;
    const kept: Readiness = { ready: true, reason: "SilenceHeld", message };
    this.#options.registrar.wish(namespace, name, { readiness: kept, addresses: undefined });
  }

  #withdraw(key: string, readiness: Readiness): void {
    const [namespace = "", name = ""] = key.split("/");
    this.#options.registrar.wish(namespace, name, { readiness, addresses: undefined });
  }

  /** Deletes workloads whose host has been gone for too long. */
  #collect(): void {
    const { scheduler, gcAfterMs, registrar, log } = this.#options;
    const answered = new Set(this.#leases.others().map(({ key }) => key));
    for (const [key, { object }] of this.#workloads) {
      const condition = readyCondition(object);
      if (this.#sessions.has(key) || answered.has(key) || condition === undefined || condition.status === "True")
        continue;
      const since = Date.parse(condition.lastTransitionTime ?? object.metadata.creationTimestamp ?? "");
      // Revoked ones are the memory of the revocation, until their last certificate has died.
      const registration = readRegistration(object);
      const ends = registration?.revoked === undefined ? 0 : Date.parse(registration.certificateEnds ?? "");
      if (ends > scheduler.wallMs()) continue;
      if (Number.isNaN(since) || scheduler.wallMs() - since < gcAfterMs) continue;
      log.info({ host: key }, "host has been gone for too long; deleting its workload");
      const [namespace = "", name = ""] = key.split("/");
      const readiness: Readiness = { ready: false, reason: "Gone", message: "gone for too long" };
      registrar.wish(namespace, name, { readiness, addresses: undefined, finish: "delete" });
    }
  }
}

/**
 * Whom a certificate speaks for. Several hosts may share one ServiceAccount, so the name alone is not enough: the key
 * must be one that was certified for this very workload.
 * @throws BootstrapError
 */
export async function authenticate(
  client: KubeClient,
  mesh: Mesh,
  peer: Peer,
  namespace: string,
  name: string,
  wallMs: number,
): Promise<Registration> {
  const account = peer.identity === undefined ? undefined : parseIdentityName(peer.identity, mesh.names);
  if (peer.certificate === undefined || account === undefined) {
    throw new BootstrapError("no-identity", "this call needs a certificate of this mesh");
  }
  // The handshake judged it once; a connection may live longer than the certificate that opened it.
  if (validity(peer.certificate).notAfterMs <= wallMs) {
    throw new BootstrapError("no-identity", "the certificate of this connection has run out");
  }
  // It goes into errors and logs, and may be anything.
  const workload = printable(`${namespace}/${name}`, MAX_NAME);
  const object = isDnsName(namespace) && isDnsName(name) ? await readWorkload(client, namespace, name) : undefined;
  const registration = object && readRegistration(object);
  // Whether the workload exists is told only to those whose identity could own it.
  if (account.namespace !== namespace || registration === undefined) {
    throw new BootstrapError("unknown-workload", `there is no workload ${workload} for this identity`);
  }
  if (registration.workload.serviceAccount !== account.serviceAccount) {
    throw new BootstrapError("unknown-workload", `there is no workload ${workload} for this identity`);
  }
  if (!registration.keys.includes(keyFingerprint(peer.certificate))) {
    throw new BootstrapError("clone", `this key was not certified for ${workload}`);
  }
  if (registration.revoked !== undefined) {
    throw new BootstrapError("revoked", `${workload} was revoked: ${registration.revoked}`);
  }
  return registration;
}

/** One certificate, or one name, on two machines. */
export function cloneOf({ namespace, name }: Registration["workload"]): BootstrapError {
  return new BootstrapError("clone", `${namespace}/${name} belongs to another machine`);
}

function isDnsName(text: string): boolean {
  return /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/.test(text);
}
