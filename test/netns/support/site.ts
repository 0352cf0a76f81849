import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import {
  type HostFacts,
  type InterceptionFile,
  type Plan,
  parseOptions,
  plan,
  type Run,
} from "../../../src/bootstrap/interception/index.ts";
import { type Host, Network } from "../../../src/lab/netns.ts";

/** The uids in these tests: the agent's, and that of an ordinary program. */
export const AGENT = 4990;
export const USER = 4000;

/** A program that answers lines with lines. */
export class Conversation {
  readonly child: ChildProcess;
  readonly #lines: string[] = [];
  #wake: (() => void) | undefined;

  constructor(child: ChildProcess) {
    this.child = child;
    if (child.stdout === null) throw new Error("no standard output");
    createInterface({ input: child.stdout }).on("line", (line) => {
      this.#lines.push(line);
      this.#wake?.();
    });
  }

  /** The next line, waiting for it. */
  async hear(): Promise<string> {
    const deadline = setTimeout(() => this.#wake?.(), 8000);
    if (this.#lines.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    clearTimeout(deadline);
    return this.#lines.shift() ?? "silence";
  }

  ask(line: string): Promise<string> {
    this.child.stdin?.write(`${line}\n`);
    return this.hear();
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const ended = once(this.child, "exit");
    this.child.kill(signal);
    await ended;
  }
}

/** A host with an application (ports 8080 and 22), a pod with one (port 7000), and a plan for the host. */
export class Site {
  readonly network: Network;
  readonly vm: Host;
  readonly pod: Host;
  readonly run: Run;

  private constructor(network: Network, vm: Host, pod: Host) {
    this.network = network;
    this.vm = vm;
    this.pod = pod;
    this.run = async (program, args, input) => {
      const { code, stdout, stderr } = await vm.exec(program, args, { input: input ?? "" });
      return { code: code ?? 137, stdout, stderr };
    };
  }

  static async create(): Promise<Site> {
    const network = await Network.create({ uplink: false });
    const vm = await network.addHost("vm", network.address(0, 10));
    const pod = await network.addHost("pod", network.address(1, 2));
    const site = new Site(network, vm, pod);
    await site.start(vm, "peer.ts", ["app", "8080", "22"]);
    await site.start(pod, "peer.ts", ["pod", "7000"]);
    return site;
  }

  /** Captures the pod's network and port 8080, unless told otherwise, on a host with nothing special about it. */
  plan(change: Partial<Omit<InterceptionFile, "format" | "agent">> = {}, facts: Partial<HostFacts> = {}): Plan {
    const options = parseOptions({
      format: 1,
      outbound: { networks: this.podNetworks(), ...change.outbound },
      inbound: { ports: [8080], ...change.inbound },
      routing: { ...change.routing },
      agent: { uid: AGENT },
    } satisfies InterceptionFile);
    return plan(options, {
      families: [4, 6],
      cgroups: new Map(),
      ssh: { ports: [], cgroups: [] },
      filteredBridges: [],
      ...facts,
    });
  }

  podNetworks(): string[] {
    return [`${this.network.prefix}.1.0/24`, `fd6d:6100::${this.network.prefix}.1.0/120`];
  }

  agent(): Promise<Conversation> {
    return this.start(this.vm, "agent.ts", [String(AGENT)]);
  }

  /** Opens a connection and keeps it; the first line heard says where it ended up. */
  async hold(from: Host, ip: string, port: number): Promise<Conversation> {
    return new Conversation(from.spawn(process.execPath, [script("dial.ts"), ip, String(port), "stay"], { uid: USER }));
  }

  /** Opens a connection as an ordinary program and tells who answered, or the error's code. */
  async dial(from: Host, ip: string, port: number, uid = USER): Promise<string> {
    const { stdout } = await from.exec(process.execPath, [script("dial.ts"), ip, String(port)], { uid });
    return stdout.trim();
  }

  /** Everything that interception could have left behind. */
  async snapshot(): Promise<string> {
    const listings = await Promise.all(
      [
        ["nft", "list", "ruleset"],
        ["ip", "rule"],
        ["ip", "-6", "rule"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "-6", "route", "show", "table", "all"],
      ].map(([program = "", ...args]) => this.run(program, args)),
    );
    return listings.map(({ stdout }) => stdout).join("---\n");
  }

  async start(host: Host, file: string, args: readonly string[]): Promise<Conversation> {
    const conversation = new Conversation(
      host.spawn(process.execPath, [script(file), ...args], { stdio: ["pipe", "pipe", "inherit"] }),
    );
    const line = await conversation.hear();
    if (line !== "listening") throw new Error(`${file}: ${line}`);
    return conversation;
  }

  remove(): Promise<void> {
    return this.network.remove();
  }
}

/** Path of a program in this folder. */
export function script(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url));
}
