import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chownSync, openSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { AGENT_UID, type AgentConfig, AgentOnHost, ownedByAgent } from "./agent-on-host.ts";
import {
  CLUSTER_DOMAIN,
  ENROLLER_KUBECONFIG,
  LINKERD,
  PORTS,
  podIdentity,
  SERVICE_CIDR,
  type ServiceOrder,
} from "./control-plane.ts";
import { ControlPlaneProcess } from "./control-plane-process.ts";
import { lastWords } from "./last-words.ts";
import { type Host, Network, type Output } from "./netns.ts";
import type { NamedPort } from "./objects.ts";
import { plainEnvironment, selfCommand } from "./self.ts";
import { type HostRole, type HostState, type LabState, makeDirectory, thisProcess, writeState } from "./state.ts";
import { until } from "./until.ts";

export const ENROLLER_PORT = 4145;

/** The sample applications of `lab app`. */
export type AppKind = "http" | "tcp" | "grpc";

/** An application that runs beside an agent. */
export interface AppWish {
  readonly kind: AppKind;
  readonly port: number;
}

export interface LabOptions {
  /** Lower-case letters and digits, at most 8; random unless told. */
  readonly id?: string;
  /** Hears what is being done, as a sentence without a full stop. */
  readonly progress?: (step: string) => void;
}

export interface PodOptions {
  readonly namespace: string;
  readonly name: string;
  /** Its ServiceAccount, and its label `app`. */
  readonly app: string;
  readonly apps: readonly AppWish[];
  /** Ports whose bytes are not to be understood. */
  readonly opaquePorts?: readonly number[];
}

export interface InviteOptions {
  readonly namespace: string;
  /** The group's name; also the label `app`. */
  readonly group: string;
  readonly ports: readonly NamedPort[];
  /** Such as `http:8080/healthz`. */
  readonly probe?: string;
}

/**
 * A whole mesh on one machine: a control plane, the real enroller, and hosts that are pods or VMs, each with the real
 * agent. Made by {@link Lab.start}, gone with {@link Lab.stop} or with this process, however that ends.
 */
export class Lab {
  readonly id: string;
  readonly directory: string;
  readonly kubeconfig: string;
  readonly network: Network;
  readonly #controlPlane: ControlPlaneProcess;
  readonly #progress: (step: string) => void;
  readonly #hosts: HostState[] = [];
  readonly #agents = new Map<string, AgentOnHost>();
  #enroller: ChildProcess | undefined;
  #pods = 0;
  #vms = 0;
  #stopping: Promise<void> | undefined;

  private constructor(
    network: Network,
    directory: string,
    controlPlane: ControlPlaneProcess,
    progress: (step: string) => void,
  ) {
    this.id = network.id;
    this.network = network;
    this.directory = directory;
    this.kubeconfig = join(directory, "kubeconfig");
    this.#controlPlane = controlPlane;
    this.#progress = progress;
  }

  /** Starts network, control plane and enroller. Nothing is left behind if that fails. Needs root. */
  static async start(options: LabOptions = {}): Promise<Lab> {
    const progress = options.progress ?? (() => {});
    progress("making a network of namespaces");
    const network = await Network.create(options.id === undefined ? {} : { id: options.id });
    const directory = makeDirectory(network.id);
    // Also when the process ends while the lab is still being made.
    process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
    try {
      const host = await network.addHost("control-plane", network.address(0, 10));
      progress("starting the API and Linkerd's services");
      const controlPlane = await ControlPlaneProcess.start(host, directory);
      const lab = new Lab(network, directory, controlPlane, progress);
      lab.#record(host, "control-plane");
      await lab.#startEnroller();
      return lab;
    } catch (error) {
      await network.remove();
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  get hosts(): readonly HostState[] {
    return this.#hosts;
  }

  /** What other processes are told about this lab. */
  get state(): LabState {
    const { id, directory, kubeconfig } = this;
    return { format: 1, id, ...thisProcess(), ready: true, directory, kubeconfig, hosts: this.#hosts };
  }

  /** The agent on a host that has one. */
  agent(name: string): AgentOnHost {
    const agent = this.#agents.get(name);
    if (agent === undefined) throw new Error(`there is no agent on ${name}`);
    return agent;
  }

  host(name: string): Host {
    const host = this.network.hosts.get(name);
    if (host === undefined) throw new Error(`there is no host ${name}`);
    return host;
  }

  async createNamespace(name: string): Promise<void> {
    await this.#controlPlane.carryOut({ kind: "namespace", name });
  }

  async createService(service: ServiceOrder): Promise<void> {
    await this.#controlPlane.carryOut({ kind: "service", service });
  }

  /** Adds a pod: a host, its applications, an agent with the pod's identity, and the Pod object. */
  async addPod(options: PodOptions): Promise<AgentOnHost> {
    const { namespace, name, app, apps, opaquePorts = [] } = options;
    this.#progress(`starting pod ${namespace}/${name}`);
    const host = await this.network.addHost(name, this.network.address(1, 10 + this.#pods++));
    this.#resolvesIn(host, [`${namespace}.svc.${CLUSTER_DOMAIN}`, `svc.${CLUSTER_DOMAIN}`, CLUSTER_DOMAIN]);
    const directory = join(this.directory, name);
    const identityDirectory = join(directory, "identity");
    ownedByAgent(directory, 0o755);
    ownedByAgent(identityDirectory, 0o700);
    const ports = apps.map(({ kind, port }) => ({ name: kind, port }));
    await this.#controlPlane.carryOut({
      kind: "pod",
      pod: {
        namespace,
        name,
        serviceAccount: app,
        ip: host.ip,
        labels: { app },
        annotations: opaquePorts.length > 0 ? { "config.linkerd.io/opaque-ports": opaquePorts.join(",") } : {},
        ports,
        identityDirectory,
        uid: AGENT_UID,
      },
    });
    await this.#startApps(host, app, apps);
    const control = this.network.address(0, 10);
    const agent = new AgentOnHost(host, directory, {
      workload: { namespace, name, kind: "pod", addresses: [host.ip] },
      identity: { source: "files", directory: identityDirectory },
      controlPlane: {
        destination: `${control}:${PORTS.destination}`,
        policy: `${control}:${PORTS.policy}`,
        direct: true,
        name: podIdentity(LINKERD, "linkerd-destination"),
      },
      inbound: { ports: ports.map(({ port }) => port), opaquePorts },
      interception: { capture: [SERVICE_CIDR] },
    });
    await this.#run(agent, "pod", `${namespace}/${name}`);
    return agent;
  }

  /** Adds a VM that is not in the mesh: a host with its applications and a machine id of its own. */
  async addVm(name: string, apps: readonly AppWish[]): Promise<Host> {
    this.#progress(`starting VM ${name}`);
    const host = await this.network.addHost(name, this.network.address(2, 10 + this.#vms++));
    this.#resolvesIn(host, []);
    await this.#startApps(host, name, apps);
    this.#record(host, "vm");
    return host;
  }

  /** Runs `mesh-agent invite`, as the administrator would. Returns the command line and the join string. */
  async invite(options: InviteOptions): Promise<{ command: readonly string[]; join: string }> {
    const { namespace, group, ports, probe } = options;
    const command = ["invite", group, "-n", namespace];
    for (const { name, port } of ports) command.push("--port", `${name}=${port}`);
    if (probe !== undefined) command.push("--probe", probe);
    command.push("--label", `app=${group}`);
    const address = `${this.network.address(0, 11)}:${ENROLLER_PORT}`;
    const [program, ...args] = selfCommand(...command, "--enroller", address);
    const { code, stdout, stderr } = await this.host("enroller").exec(program, args, {
      env: this.#clusterEnvironment(),
    });
    const join = /\bmj1\.\S+/.exec(stdout)?.[0];
    if (code !== 0 || join === undefined) throw new Error(`the invitation failed: ${(stderr || stdout).trim()}`);
    return { command: ["mesh-agent", ...command], join };
  }

  /** Joins a VM with a join string, and waits until its agent is ready. Returns its agent. */
  async join(name: string, joinString: string, config: AgentConfig = {}): Promise<AgentOnHost> {
    this.#progress(`joining ${name}`);
    const host = this.host(name);
    const directory = join(this.directory, name);
    ownedByAgent(directory, 0o755);
    const joinFile = join(directory, "join");
    const machineIdFile = join(directory, "machine-id");
    // Each VM is a machine of its own, although all of them share this one's /etc.
    writeFileSync(machineIdFile, `${randomBytes(16).toString("hex")}\n`);
    writeFileSync(joinFile, `${joinString}\n`, { mode: 0o600 });
    chownSync(joinFile, AGENT_UID, AGENT_UID);
    const agent = new AgentOnHost(host, directory, { identity: { joinFile, machineIdFile }, ...config });
    await this.#run(agent, "vm", undefined);
    return agent;
  }

  /** Runs a program on a host to its end. */
  exec(name: string, command: string, args: readonly string[], timeoutMs = 30_000): Promise<Output> {
    return this.host(name).exec(command, args, { env: plainEnvironment(), timeoutMs });
  }

  /** Makes the lab visible to `lab status`, `lab exec` and `lab down`. */
  publish(): void {
    writeState(this.state);
  }

  /** Ends everything and removes every namespace, rule and file. Harmless when repeated. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** As {@link stop} at once, for an exit handler. */
  stopSync(): void {
    this.network.removeSync();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #stop(): Promise<void> {
    // Hosts before the cluster, so that they can say goodbye.
    await Promise.all([...this.#agents.values()].map((agent) => agent.stop()));
    this.#enroller?.kill("SIGTERM");
    await this.#controlPlane.stop();
    this.stopSync();
  }

  async #startEnroller(): Promise<void> {
    this.#progress("starting the enroller");
    const host = await this.network.addHost("enroller", this.network.address(0, 11));
    const log = join(this.directory, "enroller.log");
    const output = openSync(log, "a", 0o600);
    const listen = `${host.ip}:${ENROLLER_PORT}`;
    const [program, ...args] = selfCommand("enroller", "--listen", listen, "--capture", SERVICE_CIDR);
    const env = plainEnvironment({ KUBECONFIG: join(this.directory, ENROLLER_KUBECONFIG) });
    const child = host.spawn(program, args, { env, stdio: ["ignore", output, output] });
    this.#enroller = child;
    const outcome = await until(async () => {
      if (child.exitCode !== null) return "dead";
      return (await answers(host.ip, ENROLLER_PORT)) ? "up" : undefined;
    });
    if (outcome !== "up") {
      throw new Error(`the enroller ${outcome === "dead" ? "ended" : "does not answer"}:
${lastWords(log)}`);
    }
    this.#record(host, "enroller");
  }

  #clusterEnvironment(): Record<string, string> {
    return plainEnvironment({ KUBECONFIG: this.kubeconfig });
  }

  async #startApps(host: Host, name: string, apps: readonly AppWish[]): Promise<void> {
    const output = openSync(join(this.directory, `${host.name}-app.log`), "a", 0o600);
    // One process for all of them: each would load the same program again.
    const [program, ...args] = selfCommand(
      "lab",
      "app",
      ...apps.map(({ kind, port }) => `${kind}=${port}`),
      "--name",
      name,
    );
    host.spawn(program, args, { env: plainEnvironment(), stdio: ["ignore", output, output] });
    for (const { port } of apps) {
      const up = await until(() => answers(host.ip, port));
      if (!up) throw new Error(`the application on ${host.name}:${port} does not answer`);
    }
  }

  async #run(agent: AgentOnHost, role: HostRole, workload: string | undefined): Promise<void> {
    this.#agents.set(agent.host.name, agent);
    await agent.start();
    const joined = (await agent.status())?.workload;
    const name = workload ?? (joined === undefined ? undefined : `${joined.namespace}/${joined.name}`);
    this.#record(agent.host, role, { socket: agent.socket, ...(name === undefined ? {} : { workload: name }) });
  }

  #resolvesIn(host: Host, search: readonly string[]): void {
    const lines = [`nameserver ${this.network.address(0, 10)}`];
    if (search.length > 0) lines.push(`search ${search.join(" ")}`, "options ndots:5");
    host.writeEtc("resolv.conf", `${lines.join("\n")}\n`);
  }

  #record(host: Host, role: HostRole, more: Partial<HostState> = {}): void {
    const known = this.#hosts.findIndex((other) => other.name === host.name);
    const state: HostState = { name: host.name, role, ip: host.ip, namespace: host.namespace, ...more };
    if (known >= 0) this.#hosts[known] = state;
    else this.#hosts.push(state);
  }
}

/** Whether somebody accepts connections there. */
function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1_000 });
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => end(true));
    socket.once("timeout", () => end(false));
    socket.once("error", () => end(false));
  });
}
