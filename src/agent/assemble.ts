import { chmodSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { hostname } from "node:os";
import { type MeshConfiguration, realScheduler } from "../bootstrap/control/index.ts";
import {
  AddressWatch,
  AttachClient,
  type HostReadiness,
  NameResolver,
  Probes,
  type RegistrationState,
  readMachineId,
} from "../bootstrap/host/index.ts";
import { acceptAnchors, EnrolledIdentity, type StoredMembership, saveMembership } from "../bootstrap/identity/index.ts";
import { RESOLVER_FILE } from "../bootstrap/resolver/index.ts";
import type { IdentitySource } from "../proxy/core/identity.ts";
import type { TapEvent } from "../proxy/core/messages.ts";
import type { Hub } from "../proxy/discovery/index.ts";
import { RATE_BUCKET_BYTES } from "../proxy/policy/index.ts";
import { createAdminServer, createControlServer } from "./admin/index.ts";
import { listen } from "./admin/listen.ts";
import { connectionStart } from "./admittance.ts";
import { bootstrapLog } from "./bootstrap-log.ts";
import type { Config } from "./config.ts";
import { createDiscovery } from "./discovery.ts";
import { CommandError, EXIT, type ExitCode } from "./exit.ts";
import { IdentitySeries } from "./identity-series.ts";
import { type FollowedIdentity, followIdentity } from "./identity-source.ts";
import { InterceptionPlan } from "./interception-plan.ts";
import { type Family, LeaseKeeper, type ProbeResult } from "./lease-keeper.ts";
import { type ListenerFds, ownListeners, refuseOtherPorts, systemdListeners } from "./listeners.ts";
import { type AgentLogger, createLogger } from "./log.ts";
import { membership } from "./membership.ts";
import { descriptorLimit, MetricsStore, ProcessMetrics } from "./metrics/index.ts";
import { NameService } from "./name-service.ts";
import { dup } from "./posix.ts";
import { Reassertion } from "./reassertion.ts";
import { resolverFile } from "./resolver-file.ts";
import { ResolverWatch } from "./resolver-watch.ts";
import { openSockets, type SpiffeSockets } from "./spiffe/index.ts";
import type { AgentStatus, LifecycleState } from "./status.ts";
import { openStore, type Store } from "./store.ts";
import { serviceManager } from "./systemd.ts";
import { UnitWatch } from "./unit-watch.ts";
import { type Predecessor, readPredecessor, type Successor, startSuccessor } from "./upgrade.ts";
import { type Validity, ValidityWatch } from "./validity.ts";
import { BUILD_INFO, VERSION } from "./version.ts";
import { pause, within } from "./wait.ts";
import { WorkerPool, workerCount } from "./worker-pool.ts";
import { workerSettings } from "./worker-settings.ts";
import { watchedPorts } from "./workload-facts.ts";

// How long a stop waits for the cluster to let go of us before the drain begins.
const LEAVE_MS = 3_000;
// An operator who takes the host out of the mesh waits longer for it to be done properly.
const LEAVE_FOR_GOOD_MS = 15_000;
const AFTERWORD_MS = 2_000;
// A host without a valid certificate tries a join string that is still there with the next start.
const REJOIN_MS = 60_000;
// Where nobody is connected, nobody has to let go of us: long enough for the goodbye to leave the host.
const GOODBYE_MS = 200;
// Who takes over attaches as ready as its predecessor was: its first probes may take this long.
const FIRST_PROBES_MS = 5_000;
const POLL_MS = 50;
// Until root has applied the rules and the first probe came through them: whoever starts after us waits for so long at most.
const FIRST_INTERCEPTED_MS = 5_000;

/** Builds the whole agent on the main thread, in start-up order, and runs it until it is told to stop. */
export async function runAgent(config: Config): Promise<void> {
  const startedAt = Date.now();
  const log = createLogger(config["log.level"]);
  const agent = new Agent(config, log, startedAt);
  agent.guard();
  try {
    await agent.start();
  } catch (error) {
    // What fails because it is told to stop is no failure: the stop ends the process.
    if (!agent.stopping) throw error;
  }
}

class Agent {
  readonly #config: Config;
  readonly #log: AgentLogger;
  readonly #startedAt: number;
  readonly #store: Store;
  readonly #metrics = new MetricsStore(() => performance.now());
  readonly #process: ProcessMetrics;
  readonly #certificate: IdentitySeries;
  readonly #manager: ReturnType<typeof serviceManager>;
  readonly #tappers = new Set<(event: TapEvent) => void>();
  #state: LifecycleState = "starting";
  #member: StoredMembership | undefined;
  #identity: IdentitySource | undefined;
  #enrolled: EnrolledIdentity | undefined;
  #followed: FollowedIdentity | undefined;
  #joinProblem: string | undefined;
  #rejoin = false;
  #awaitsApproval = false;
  readonly #validity = new ValidityWatch(
    () => this.#identity?.current(),
    realScheduler,
    (validity) => this.#validityChanged(validity),
  );
  #address: AddressWatch | undefined;
  #spiffe: SpiffeSockets | undefined;
  #hub: Hub | undefined;
  #workers: WorkerPool | undefined;
  #attach: AttachClient | undefined;
  #registration: RegistrationState | undefined;
  #probes: Probes | undefined;
  #lease: LeaseKeeper | undefined;
  readonly #reassertion = new Reassertion();
  readonly #plan: InterceptionPlan;
  #units: UnitWatch | undefined;
  // Beyond the workers' lives: one that starts again does not refill what clients have used up.
  readonly #rateBuckets = new SharedArrayBuffer(RATE_BUCKET_BYTES);
  #names: NameService | undefined;
  #resolver: ResolverWatch | undefined;
  #servers: Server[] = [];
  #stopping: Promise<void> | undefined;
  #listeners: ListenerFds = new Map();
  /** Set while this process starts in the place of another one that still serves. */
  #predecessor: Predecessor | undefined;
  /** Who served before us, and may still drain. */
  #before: Predecessor | undefined;
  #upgrading: Promise<Successor> | undefined;
  #successor: Successor | undefined;
  #signals = 0;

  constructor(config: Config, log: AgentLogger, startedAt: number) {
    this.#config = config;
    this.#log = log;
    this.#startedAt = startedAt;
    this.#store = openStore(config["state.directory"]);
    this.#process = new ProcessMetrics(this.#metrics.registry, startedAt, () => Date.now());
    this.#certificate = new IdentitySeries(this.#metrics.registry, () => Date.now());
    this.#metrics.registry.gauge("proxy_build_info", BUILD_INFO).set(1);
    this.#manager = serviceManager(process.env, log);
    this.#plan = new InterceptionPlan({
      config,
      store: this.#store,
      log,
      member: () => this.#member,
      addresses: (name) => this.#names?.addresses(name),
    });
  }

  /** Installs what must hold from the first moment: signals, and the end of a process that met a bug. */
  guard(): void {
    process.on("SIGTERM", () => this.#signalled());
    process.on("SIGINT", () => this.#signalled());
    process.on("SIGHUP", () => {
      this.#reload().catch((error: Error) => this.#log.error("not reloaded", { why: error.message }));
    });
    const bug = (error: unknown) => {
      this.#log.error("uncaught error: draining and ending", {
        why: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
      // Unknown state: no promises, two seconds for what is open; systemd holds the sockets meanwhile.
      setTimeout(() => process.exit(EXIT.failure), 2_000).unref();
      void this.#workers?.drain(1_500).finally(() => process.exit(EXIT.failure));
      if (this.#workers === undefined) process.exit(EXIT.failure);
    };
    process.on("uncaughtException", bug);
    process.on("unhandledRejection", bug);
  }

  async start(): Promise<void> {
    const config = this.#config;
    this.#before = readPredecessor(process.env);
    this.#predecessor = this.#before;
    const listeners =
      systemdListeners(process.env, process.pid, this.#predecessor !== undefined) ??
      (config["proxy.listeners"] === "self" ? ownListeners(config) : undefined);
    if (listeners === undefined)
      throw new CommandError(
        EXIT.configuration,
        "no listening sockets were passed in",
        "start the systemd unit, or set proxy.listeners: self",
      );
    this.#listeners = listeners;
    refuseOtherPorts(listeners, config);
    // A predecessor still answers; two different answers on one port would help nobody.
    if (this.#predecessor === undefined) await this.#serveAdmin(listeners);
    await this.#identify();
    const identity = this.#identity as IdentitySource;
    this.#plan.write();
    this.#resolver = new ResolverWatch(() => this.#writeResolver());
    this.#writeResolver();
    this.#hub = createDiscovery({
      config,
      identity,
      member: () => this.#member,
      registry: this.#metrics.registry,
      log: this.#log,
    });
    const connections = connectionStart(config, workerCount(config["proxy.workers"]), descriptorLimit());
    this.#workers = new WorkerPool({
      count: workerCount(config["proxy.workers"]),
      inboundFds: listeners.get("inbound") ?? [],
      outboundFds: listeners.get("outbound") ?? [],
      start: () => ({
        ...workerSettings(config, this.#member?.configuration, this.#rateBuckets, this.#log.level === "debug"),
        connections,
        relayIdleMs: config["proxy.relayIdleTimeout"] || undefined,
      }),
      identity: () => identity.current(),
      hub: this.#hub,
      metrics: this.#metrics,
      log: this.#log,
      now: () => performance.now(),
      onTap: (event) => {
        for (const tapper of this.#tappers) tapper(event);
      },
      onReadiness: () => this.#readinessChanged(),
    });
    identity.subscribe((next) => {
      this.#workers?.identity(next);
      this.#validity.look();
      this.#gauges();
    });
    this.#hub.keepInbound(watchedPorts(this.#config, this.#member?.configuration));
    this.#gauges();
    this.#lease = new LeaseKeeper(this.#log, (family, result) => this.#intercepted(family, result));
    this.#lease.start();
    this.#units = new UnitWatch(config["interception.units"], () => this.#plan.write(true));
    this.#units.start();
    if (this.#member !== undefined) await this.#register(this.#member);
    await this.#serveNames(listeners, identity);
    void this.#plan.findApiServer();
    this.#validity.look();
    await this.#serveSpiffe(identity);
    if (!this.#awaitsApproval) this.#manager.watchdog(() => this.#alive());
  }

  get stopping(): boolean {
    return this.#stopping !== undefined;
  }

  #alive(): boolean {
    return this.#workers === undefined ? this.#awaitsApproval : this.#workers.ready > 0;
  }

  /** An administrator's answer may take days: for systemd the unit is up meanwhile, and `status` says what it waits for. */
  #waits(why: string): void {
    this.#joinProblem = why;
    if (this.#awaitsApproval) return;
    this.#awaitsApproval = true;
    void this.#manager.ready(`joining: ${why}`);
    this.#manager.watchdog(() => this.#alive());
  }

  // --- identity and registration -----------------------------------------------------------------------------------

  async #identify(): Promise<void> {
    const config = this.#config;
    const log = bootstrapLog(this.#log);
    this.#followed = followIdentity(config, realScheduler, log, () => this.#certificate.failed());
    if (this.#followed !== undefined) {
      this.#identity = this.#followed.source;
      return;
    }
    this.#setState("joining");
    const { member, problem, pending } = await membership(config, this.#store, log, {
      waits: (why) => this.#waits(why),
    });
    this.#member = member;
    this.#joinProblem = problem;
    this.#rejoin = pending;
    const { configuration } = member;
    this.#enrolled = new EnrolledIdentity({
      machine: readMachineId(config["identity.machineIdFile"]),
      identity: member.identity,
      workload: configuration.workload,
      mesh: configuration,
      enrollers: () => member.enrollers,
      version: VERSION,
      scheduler: realScheduler,
      log,
      save: (identity) => this.#save({ ...(this.#member as StoredMembership), identity }),
      failed: () => this.#certificate.failed(),
    });
    this.#enrolled.start();
    this.#identity = this.#enrolled;
  }

  #save(member: StoredMembership): void {
    this.#member = member;
    saveMembership(this.#store, member);
  }

  async #register(member: StoredMembership): Promise<void> {
    const config = this.#config;
    const { configuration } = member;
    const log = bootstrapLog(this.#log);
    const address = new AddressWatch({
      configured: config["workload.addresses"],
      enroller: () => this.#attach?.enroller ?? member.enrollers[0],
      scheduler: realScheduler,
      changed: () => {
        this.#log.info("this host's address", { addresses: address.addresses().join(", "), why: address.why() });
        this.#attach?.touch();
      },
    });
    this.#address = address;
    // Before the first word to the enroller: changing an address afterwards takes the host out of service for a moment.
    await address.start();
    if (this.#stopping !== undefined) return;
    this.#attach = new AttachClient({
      workload: configuration.workload,
      mesh: configuration,
      enrollers: member.enrollers,
      identity: this.#identity as IdentitySource,
      machine: readMachineId(config["identity.machineIdFile"]),
      hostname: hostname(),
      version: VERSION,
      scheduler: realScheduler,
      log,
      addresses: () => address.addresses(),
      handlers: {
        observed: (seen) => {
          address.observed(seen);
          void address.look();
        },
        renew: (withinMs) => this.#enrolled?.renewWithin(withinMs),
        configuration: (next) => this.#configured(next),
        trustAnchors: (roots) => {
          const anchors = acceptAnchors({ roots });
          if (anchors !== undefined) this.#enrolled?.setTrustAnchors(anchors);
        },
        registration: (state) => {
          this.#registration = state;
          this.#manager.status(this.#summary());
        },
        shutdownIdentity: (message) => this.#revoked(message),
        superseded: () => {
          // By our own successor: it takes over in its own time.
          if (this.#upgrading === undefined && this.#successor === undefined)
            void this.#stop(config["drain.timeout"], false);
        },
        refused: (error) => {
          if (error.code === "revoked") this.#revoked(error.message);
        },
        state: () => this.#manager.status(this.#summary()),
      },
    });
    this.#probes = new Probes({ scheduler: realScheduler, changed: () => this.#readinessChanged() });
    this.#probes.configure(configuration.probes);
    this.#readinessChanged();
    if (this.#predecessor === undefined) this.#attach.start();
  }

  #configured(next: MeshConfiguration): void {
    const member = this.#member;
    if (member === undefined) return;
    try {
      this.#save({ ...member, configuration: next });
    } catch (error) {
      // It is in use already, and comes again with every attachment.
      this.#log.error("the mesh's configuration could not be stored", { why: (error as Error).message });
    }
    this.#plan.write();
    void this.#plan.findApiServer();
    this.#probes?.configure(next.probes);
    this.#hub?.keepInbound(watchedPorts(this.#config, this.#member?.configuration));
    this.#hub?.retryNow();
  }

  /** Nothing of the identity stays on the disk, as far as the disk can be written. */
  #forget(): void {
    try {
      this.#store.remove("membership.json");
    } catch (error) {
      this.#log.error("the identity could not be removed from the disk", { why: (error as Error).message });
    }
  }

  /** The workload is not ours any more: nothing of the identity stays, and no restart brings it back. */
  #revoked(message: string): void {
    this.#log.error("the identity was revoked: closing every connection", { why: message });
    this.#enrolled?.shutDown();
    this.#forget();
    void this.#stop(0, false, EXIT.notPermitted);
  }

  // --- the parts ---------------------------------------------------------------------------------------------------

  /** Written again by every process, so that root looks whether everything is in its place. */
  #writeResolver(): void {
    if (process.getuid?.() === 0) return;
    const served = (this.#listeners.get("dns") ?? []).length > 0;
    const file = resolverFile(this.#config, this.#member?.configuration.clusterDomain, served);
    try {
      if (file === undefined) this.#store.remove(RESOLVER_FILE);
      else this.#store.write(RESOLVER_FILE, `${JSON.stringify(file)}\n`);
    } catch (error) {
      this.#log.error("what the host's resolver needs to know could not be written", { why: (error as Error).message });
    }
  }

  async #serveAdmin(listeners: ListenerFds): Promise<void> {
    const config = this.#config;
    const admin = createAdminServer({
      ready: () => this.#isReady(),
      metrics: () => {
        this.#process.refresh();
        const page = this.#metrics.format();
        this.#metrics.sweep();
        return page;
      },
      status: () => this.status(),
    });
    const control = createControlServer({
      status: () => this.status(),
      explain: (ip, port) => this.#hub?.outbound(ip, port) ?? null,
      endpoints: (path) => [...(this.#hub?.endpoints(path)?.values() ?? [])],
      tap: (listener) => this.#tap(listener),
      leave: () => this.#leave(),
      reload: () => this.#reload(),
    });
    this.#servers = [admin, control];
    const adminFd = listeners.get("admin")?.[0];
    const controlFd = listeners.get("control")?.[0];
    const { ip, port } = config["admin.address"];
    // Duplicates: the server closes its own when it stops, and a successor inherits the others.
    await listen(admin, adminFd === undefined ? { host: ip, port } : { fd: dup(adminFd) }, "admin.address");
    if (controlFd !== undefined) return listen(control, { fd: dup(controlFd) }, "control.socket");
    const path = config["control.socket"];
    // A socket that a killed agent left behind. Its directory is ours alone.
    rmSync(path, { force: true });
    await listen(control, { path }, "control.socket");
    chmodSync(path, 0o660);
  }

  /** Names need the enroller: without a membership there is nobody to ask, and every name fails. */
  async #serveNames(listeners: ListenerFds, identity: IdentitySource): Promise<void> {
    const config = this.#config;
    const fds = listeners.get("dns") ?? [];
    const addresses = config["dns.addresses"];
    if (fds.length === 0 && addresses.length === 0) return;
    const mesh = this.#member?.configuration;
    const resolver =
      mesh &&
      new NameResolver({
        enrollers: () => this.#member?.enrollers ?? [],
        mesh,
        identity,
        timeoutMs: config["dns.timeout"],
      });
    this.#names = new NameService({
      resolve: (name) => resolver?.resolve(name) ?? Promise.reject(new Error("no enroller to ask")),
      clusterDomain: () => this.#member?.configuration.clusterDomain,
      maxStaleMs: config["dns.maxStale"],
      clock: realScheduler,
      store: this.#store,
      metrics: this.#metrics.registry,
      log: this.#log,
      closed: () => resolver?.close(),
    });
    try {
      await this.#names.listen(fds, addresses);
    } catch (error) {
      throw new CommandError(
        EXIT.configuration,
        `cannot answer DNS: ${(error as Error).message}`,
        "stop what listens there, or change dns.addresses",
      );
    }
  }

  #tap(listener: (event: TapEvent) => void): () => void {
    this.#tappers.add(listener);
    this.#workers?.tap(true);
    return () => {
      this.#tappers.delete(listener);
      if (this.#tappers.size === 0) this.#workers?.tap(false);
    };
  }

  #gauges(): void {
    const identity = this.#identity?.current();
    if (identity !== undefined) this.#certificate.installed(identity);
  }

  /** A courtesy to other programs: that it cannot be had must not keep the host's own traffic from the mesh. */
  async #serveSpiffe(identity: IdentitySource): Promise<void> {
    const users = this.#config["spiffe.users"];
    const units = this.#config["spiffe.units"];
    if (users.length === 0 && units.length === 0) return;
    try {
      const directory = this.#config["spiffe.directory"];
      this.#spiffe = await openSockets({ directory, users, units, identity, log: this.#log });
    } catch (error) {
      this.#log.error("the SPIFFE Workload API cannot be served", { why: (error as Error).message });
    }
  }

  // --- life --------------------------------------------------------------------------------------------------------

  #isReady(): boolean {
    const workers = this.#workers;
    return this.#state === "ready" && workers !== undefined && workers.ready > 0;
  }

  #readinessChanged(): void {
    const workers = this.#workers;
    if (workers === undefined || this.#stopping !== undefined) return;
    const expired = this.#validity.now().kind === "expired";
    // For systemd it is up: only an operator can do anything about it, and the host's other traffic goes through us.
    if (expired && this.#state !== "expired") {
      this.#setState("expired");
      this.#manager.ready(this.#summary());
    }
    if (!expired && workers.ready === workers.count && this.#state !== "ready") {
      this.#setState("ready");
      this.#log.info("ready", { workers: workers.count, afterMs: Date.now() - this.#startedAt });
      this.#lease?.hurry();
      if (this.#predecessor === undefined) void this.#announceReady();
      else void this.#takeOver(this.#predecessor);
    }
    this.#attach?.setReadiness(this.#hostReadiness(workers));
  }

  /** Programs that start after us start when their connections come to us, or when it is clear that they will not. */
  async #announceReady(): Promise<void> {
    if (this.#plan.capturesSomething) {
      const works = await this.#lease?.works(FIRST_INTERCEPTED_MS);
      if (works === false) this.#log.warn("ready without interception: mesh-agent intercept verify tells why");
    }
    if (this.#stopping === undefined) await this.#manager.ready(this.#summary());
  }

  /** Everything works: the command line and systemd turn to this process, then the predecessor drains. */
  async #takeOver(predecessor: Predecessor): Promise<void> {
    await this.#serveAdmin(this.#listeners);
    await this.#manager.ready(this.#summary());
    predecessor.ready();
    this.#log.info("took over", { from: predecessor.pid });
    const until = Date.now() + FIRST_PROBES_MS;
    while (this.#probes?.verdict().passes === false && Date.now() < until) await pause(POLL_MS);
    this.#predecessor = undefined;
    this.#readinessChanged();
    if (this.#stopping === undefined) this.#attach?.start();
  }

  /** Starts the program that lies on the disk now; once it serves, this process only finishes what it has begun. */
  #reload(): Promise<Successor> {
    if (this.#stopping !== undefined || this.#state !== "ready")
      return Promise.reject(
        new CommandError(EXIT.tryAgain, `the agent is ${this.#state}`, "mesh-agent status shows when it is ready"),
      );
    if (!this.#listeners.has("control"))
      return Promise.reject(
        new CommandError(EXIT.configuration, "systemd did not open the sockets", "restart the agent instead"),
      );
    this.#upgrading ??= this.#upgrade().finally(() => {
      this.#upgrading = undefined;
    });
    return this.#upgrading;
  }

  async #upgrade(): Promise<Successor> {
    this.#log.info("starting the program on the disk on the same sockets");
    const successor = await startSuccessor(this.#listeners, () => this.#workers?.hasten());
    this.#successor = successor;
    this.#before?.passedOn();
    this.#manager.silence();
    this.#attach?.yieldTo(successor.pid);
    this.#log.info("handed over: draining", { to: successor.pid });
    this.#setState("draining");
    this.#lease?.stop();
    this.#units?.stop();
    this.#resolver?.stop();
    this.#names?.close();
    this.#probes?.stop();
    this.#enrolled?.stop();
    // Whoever asked hears the answer first.
    setImmediate(() => {
      for (const server of this.#servers) server.close();
    });
    this.#stopping = (async () => {
      await this.#workers?.drain(this.#config["drain.timeout"]);
      this.#attach?.stop();
      this.#log.info("drained");
      await this.#close();
      process.exit(EXIT.ok);
    })();
    return successor;
  }

  /** The rules are gone, or were never there: writing the plan again is how root hears of it. */
  #intercepted(family: Family, result: ProbeResult): void {
    this.#interceptionGauge(family);
    const asked = this.#reassertion.result(family, result, performance.now());
    if (asked && this.#config["interception.reassert"]) {
      this.#metrics.registry.counter("mesh_agent_interception_reasserted_total", {}).add(1);
      this.#plan.write(true);
      if (result === "lost") this.#lease?.hurry();
    } else if (result === "lost") {
      const remedy = "interception.reassert is false: mesh-agent intercept apply puts them back";
      this.#log.error("the interception rules are gone and are left so", { family, remedy });
    }
    this.#readinessChanged();
  }

  #interceptionGauge(family: Family): void {
    const works = this.#lease?.status(family).intercepted === true ? 1 : 0;
    this.#metrics.registry.gauge("mesh_agent_interception_works", { family }).set(works);
  }

  /** The certificate ran out, or there is a valid one again. Nothing is ever sent in clear because of it. */
  #validityChanged(validity: Validity): void {
    if (validity.kind === "expired") {
      const remedy =
        this.#enrolled === undefined
          ? "renew it where it comes from"
          : "join again: mesh-agent up mj1.… (mesh-agent invite)";
      this.#log.error("this host's certificate has run out: peers refuse it", { remedy });
      if (this.#rejoin) setTimeout(() => void this.#stop(0, false, EXIT.tryAgain), REJOIN_MS).unref();
    }
    this.#readinessChanged();
  }

  #hostReadiness(workers: WorkerPool): HostReadiness {
    if (this.#validity.now().kind === "expired")
      return { ready: false, reason: "IdentityExpired", message: "the host's certificate has run out" };
    if (workers.ready === 0)
      return { ready: false, reason: "ProxyNotServing", message: "no proxy worker is accepting" };
    const verdict = this.#probes?.verdict();
    if (verdict === undefined || verdict.passes) return { ready: true, reason: "", message: "" };
    return { ready: false, reason: "ProbeFailed", message: verdict.failure ?? "a probe has not passed yet" };
  }

  #setState(state: LifecycleState): void {
    this.#state = state;
  }

  #summary(): string {
    const workload = this.#member?.configuration.workload;
    const name = workload === undefined ? "workload" : `${workload.namespace}/${workload.name}`;
    const registered =
      this.#registration?.ready === true
        ? "registered and Ready"
        : this.#registration === undefined
          ? ""
          : `not Ready: ${this.#registration.reason}`;
    return `${this.#state}: ${name}${registered === "" ? "" : `, ${registered}`}`;
  }

  status(): AgentStatus {
    const identity = this.#identity?.current();
    const config = this.#config;
    const workload =
      this.#member?.configuration.workload ??
      (config["workload.name"] === ""
        ? undefined
        : { namespace: config["workload.namespace"], name: config["workload.name"] });
    const v4 = this.#lease?.status("v4");
    const v6 = this.#lease?.status("v6");
    return {
      version: VERSION,
      state: this.#state,
      workload: workload && { namespace: workload.namespace, name: workload.name },
      identity: identity && {
        name: identity.name,
        uri: identity.uri,
        notAfter: new Date(identity.notAfterMs).toISOString(),
        leftMs: identity.notAfterMs - Date.now(),
        source: config["identity.source"],
        renewalProblem: this.#enrolled?.status().lastError ?? this.#followed?.problem(),
        nextRenewalAtMs: this.#enrolled?.status().nextAttemptAtMs,
      },
      identityProblem: this.#joinProblem ?? (identity === undefined ? this.#followed?.problem() : undefined),
      registration: this.#attach && {
        attached: this.#attach.state.kind === "attached",
        ready: this.#registration?.ready ?? false,
        why: this.#registration?.message ?? "",
        awayMs: this.#attach.awayMs,
        addresses: this.#registration?.addresses ?? this.#address?.addresses() ?? [],
        addressWhy: this.#address?.why() ?? "",
      },
      workers: {
        ready: this.#workers?.ready ?? 0,
        count: this.#workers?.count ?? 0,
        restarts: this.#workers?.restarts ?? 0,
      },
      interception: { v4: v4?.intercepted ?? false, v6: v6?.intercepted ?? false, why: v4?.why ?? "" },
      discovery: this.#hub?.status() ?? [],
      uptimeMs: Date.now() - this.#startedAt,
    };
  }

  #signalled(): void {
    this.#signals++;
    if (this.#stopping === undefined) return void this.#stop(this.#config["drain.timeout"], true);
    // systemd signals the whole unit: that our successor is to stop is no reason to cut what we still carry.
    if (this.#successor?.alive === true && this.#signals === 1) return;
    // A second signal says that waiting is over.
    this.#workers?.hasten();
  }

  /** @param announce - Tell the cluster first, so that nobody new is sent here. */
  #stop(drainMs: number, announce: boolean, exitCode: ExitCode = EXIT.ok): Promise<void> {
    this.#stopping ??= (async () => {
      await this.#finish(drainMs, announce ? LEAVE_MS : 0);
      this.#attach?.stop();
      await this.#close();
      process.exit(exitCode);
    })();
    return this.#stopping;
  }

  /** Leaves for good: not Ready, drained, then the workload is deleted and the identity forgotten. Answers when done. */
  async #leave(): Promise<void> {
    if (this.#stopping !== undefined) return this.#stopping;
    this.#stopping = (async () => {
      await this.#finish(this.#config["drain.timeout"], LEAVE_FOR_GOOD_MS);
      if (this.#attach?.state.kind === "attached") await within(LEAVE_FOR_GOOD_MS, this.#attach.leave(true));
      this.#attach?.stop();
      this.#enrolled?.shutDown();
      this.#forget();
    })();
    await this.#stopping;
    // Time for the answer, and for whoever asked to stop the unit before it would be started again.
    setTimeout(() => void this.#close().finally(() => process.exit(EXIT.ok)), AFTERWORD_MS);
  }

  async #finish(drainMs: number, leaveMs: number): Promise<void> {
    this.#setState("draining");
    this.#manager.stopping(this.#summary());
    this.#log.info("stopping");
    this.#probes?.stop();
    if (leaveMs > 0 && this.#attach?.state.kind === "attached") {
      const left = this.#attach.leave(false);
      const idle = (await this.#workers?.connections()) === 0;
      await within(idle ? Math.min(leaveMs, GOODBYE_MS) : leaveMs, left);
    }
    await this.#workers?.drain(drainMs);
  }

  async #close(): Promise<void> {
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
    this.#lease?.stop();
    this.#units?.stop();
    this.#resolver?.stop();
    this.#names?.close();
    this.#enrolled?.stop();
    this.#followed?.stop();
    this.#address?.stop();
    this.#validity.stop();
    this.#spiffe?.close();
    this.#hub?.close();
    await this.#workers?.terminate();
    this.#setState("stopped");
  }
}
