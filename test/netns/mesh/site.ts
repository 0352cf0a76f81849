import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { AgentOnHost } from "../../../src/lab/agent-on-host.ts";
import { Host } from "../../../src/lab/netns.ts";
import { addPod, inviteVm, SAMPLE } from "../../../src/lab/sample.ts";
import { plainEnvironment, selfCommand } from "../../../src/lab/self.ts";
import { Lab } from "../../../src/lab/up.ts";
import { Conversation } from "../support/site.ts";
import { Capture } from "./capture.ts";

const APPS = [
  { kind: "http", port: SAMPLE.port },
  { kind: "grpc", port: SAMPLE.grpcPort },
  { kind: "tcp", port: SAMPLE.tcpPort },
] as const;

/** Port of a listener that is nobody's business: not declared, never captured. */
export const SSH_PORT = 22;

/** What ended, and with which words. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The sample mesh of the lab, a second VM, a host outside the mesh, and a watch over the first VM's port 22. */
export class MeshSite {
  readonly lab: Lab;
  /** In no mesh, and without an agent. */
  readonly outsider: Host;
  /** The namespace between the hosts, and their default gateway. */
  readonly gateway: Host;
  readonly kubectlPath: string;
  /** When the enroller was up, by the monotonic clock. */
  readonly enrollerSince: number;
  /** The join string that the first VM has used. */
  joinString = "";
  capture: Capture | undefined;
  ssh: Conversation | undefined;

  private constructor(lab: Lab, outsider: Host, kubectlPath: string) {
    this.lab = lab;
    this.outsider = outsider;
    this.kubectlPath = kubectlPath;
    this.enrollerSince = performance.now();
    const { network } = lab;
    this.gateway = new Host("bridge", network.bridgeNamespace, network.gateway, network.gateway6);
  }

  /** Everything up, the first VM joined; removed again if that fails. */
  static async create(): Promise<MeshSite> {
    const lab = await Lab.start();
    try {
      const kubectl = await run("sh", [fileURLToPath(new URL("../../../scripts/kubectl.sh", import.meta.url))]);
      const outsider = await lab.network.addHost("outsider", lab.network.address(3, 10));
      const site = new MeshSite(lab, outsider, kubectl.stdout.trim());
      await addPod(lab);
      await lab.addVm(SAMPLE.vm, APPS);
      await lab.addVm("vm-2", []);
      const vm = lab.host(SAMPLE.vm);
      await site.start(vm, "peer.ts", ["ssh", String(SSH_PORT)]);
      // From before the VM joins until after it has left.
      site.ssh = await site.start(outsider, "watch-port.ts", [String(SSH_PORT), vm.ip, vm.ip6]);
      site.capture = await Capture.start(vm, `${lab.directory}/${SAMPLE.vm}.pcap`);
      return site;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  get vm(): AgentOnHost {
    return this.lab.agent(SAMPLE.vm);
  }

  /** Invites and joins the first VM. Returns milliseconds from before its agent was started until it was ready. */
  async joinVm(): Promise<number> {
    this.joinString = (await inviteVm(this.lab)).join;
    const began = Date.now();
    await this.lab.join(SAMPLE.vm, this.joinString);
    return lastReady(this.vm) - began;
  }

  /** Starts one of the support programs on a host; it says `listening` when it is. */
  async start(host: Host, file: string, args: readonly string[]): Promise<Conversation> {
    const child = host.spawn(process.execPath, [script(file), ...args], { stdio: ["pipe", "pipe", "inherit"] });
    const conversation = new Conversation(child);
    const line = await conversation.hear();
    if (line !== "listening") throw new Error(`${file}: ${line}`);
    return conversation;
  }

  /** Runs one of the support programs on a host of the lab and reads the JSON that it prints. */
  async ask(host: string, file: string, args: readonly string[]): Promise<unknown> {
    const { stdout, stderr } = await this.lab.exec(host, process.execPath, [script(file), ...args]);
    if (stdout === "") throw new Error(`${file}: ${stderr}`);
    return JSON.parse(stdout);
  }

  /** Opens a connection of a program on a host and keeps it; each line that comes back is heard. */
  hold(host: string, to: string, port: number): Conversation {
    const args = [script("dial.ts"), to, String(port), "stay"];
    return new Conversation(this.lab.host(host).spawn(process.execPath, args));
  }

  /** Who answers at an address, or why nobody does. */
  async dial(from: Host, ip: string, port: number): Promise<string> {
    const { stdout } = await from.exec(process.execPath, [script("dial.ts"), ip, String(port)]);
    return stdout.trim();
  }

  async kubectl(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await run(this.kubectlPath, ["--kubeconfig", this.lab.kubeconfig, ...args]);
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
    return stdout.trim();
  }

  /** Applies one object, by kubectl. */
  async apply(object: object): Promise<void> {
    const file = `${this.lab.directory}/object.json`;
    writeFileSync(file, JSON.stringify(object));
    await this.kubectl("apply", "-f", file);
  }

  /** Runs this program to its end on a host, as root unless told otherwise. */
  meshAgent(host: Host, args: readonly string[], before: readonly string[] = [], env = {}): Promise<Ended> {
    const [program = "", ...rest] = [...before, ...selfCommand(...args)];
    return host.exec(program, rest, { env: plainEnvironment(env), timeoutMs: 20_000 });
  }

  /** Invites by hand, for terms that the sample has not. Returns the join string. */
  async invite(...args: readonly string[]): Promise<string> {
    const { network, kubeconfig } = this.lab;
    const line = ["invite", ...args, "-n", SAMPLE.namespace, "--enroller", `${network.address(0, 11)}:4145`];
    const { stdout, stderr } = await this.meshAgent(this.lab.host("enroller"), line, [], { KUBECONFIG: kubeconfig });
    const join = /\bmj1\.\S+/.exec(stdout)?.[0];
    if (join === undefined) throw new Error(`the invitation failed: ${stderr}`);
    return join;
  }

  async remove(): Promise<void> {
    await this.lab.stop();
  }
}

/** When an agent last said that it is ready, Unix milliseconds. */
export function lastReady(agent: AgentOnHost): number {
  const line = logLines(agent.log).findLast(({ msg }) => msg === "ready");
  if (line === undefined) throw new Error(`${agent.host.name} has not said that it is ready`);
  return Date.parse(line.time);
}

/** The agent's log; lines that are not JSON are left out. */
export function logLines(path: string): { readonly time: string; readonly msg: string; readonly level: string }[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
}

function script(file: string): string {
  return fileURLToPath(new URL(`../support/${file}`, import.meta.url));
}

function run(program: string, args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(program, args, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}
