import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { stringify } from "yaml";
import type { AgentStatus } from "../agent/status.ts";
import { lastWords } from "./last-words.ts";
import type { Host } from "./netns.ts";
import { plainEnvironment, selfCommand } from "./self.ts";
import { until } from "./until.ts";

/**
 * The agents' uid on the lab's hosts: no user has it, it only must not be root's, since the rules exempt it from
 * interception.
 */
export const AGENT_UID = 64_143;

// What systemd does on a real host: transparent listeners need CAP_NET_ADMIN. The second one lets the agent read
// this program where it lies in somebody's home directory.
const CAPABILITIES = "+net_admin,+dac_read_search";

/** The part of the configuration that differs between the hosts of a lab. */
export type AgentConfig = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** Our agent on one host of the lab, with its files in a directory of its own. */
export class AgentOnHost {
  readonly host: Host;
  readonly directory: string;
  /** Control socket, for `status`, `tap` and the like. */
  readonly socket: string;
  readonly log: string;
  readonly #config: string;
  #child: ChildProcess | undefined;

  constructor(host: Host, directory: string, config: AgentConfig) {
    this.host = host;
    this.directory = directory;
    this.socket = join(directory, "control.sock");
    this.log = join(directory, "agent.log");
    this.#config = join(directory, "config.yaml");
    mkdirSync(this.#state, { recursive: true, mode: 0o700 });
    for (const path of [directory, this.#state]) chownSync(path, AGENT_UID, AGENT_UID);
    const common = {
      proxy: { workers: 1, listeners: "self" },
      control: { socket: this.socket },
      state: { directory: this.#state },
    };
    writeFileSync(this.#config, stringify({ ...common, ...config }));
  }

  get #state(): string {
    return join(this.directory, "state");
  }

  get #rules(): string {
    return join(this.#state, "interception.json");
  }

  /** Starts the agent, applies its rules, and waits until it is ready and its host's traffic goes through it. */
  async start(): Promise<void> {
    const output = openSync(this.log, "a", 0o600);
    const [program, ...args] = selfCommand("run", "--config", this.#config);
    const drop = [`--reuid=${AGENT_UID}`, `--regid=${AGENT_UID}`, "--clear-groups", `--inh-caps=${CAPABILITIES}`];
    const line = [...drop, `--ambient-caps=${CAPABILITIES}`, `--bounding-set=-all,${CAPABILITIES}`, program, ...args];
    const child = this.host.spawn("setpriv", line, { env: plainEnvironment(), stdio: ["ignore", output, output] });
    this.#child = child;
    await this.#until("to know what to intercept", () => existsSync(this.#rules));
    await this.#intercept("apply");
    await this.#until("to be ready", async () => {
      const status = await this.status();
      return status?.state === "ready" && status.interception.v4;
    });
  }

  /** undefined while it does not answer. */
  async status(): Promise<AgentStatus | undefined> {
    try {
      return (await askAgent(this.socket, "/status")) as AgentStatus;
    } catch {
      return undefined;
    }
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Of the agent itself: what it was started through has become it. undefined if it is not running. */
  get pid(): number | undefined {
    return this.running ? this.#child?.pid : undefined;
  }

  /** Resolves when the agent has ended, however. At once if it is not running. */
  async ended(): Promise<void> {
    if (this.#child !== undefined && this.running) await once(this.#child, "exit");
  }

  /** Ends the agent as a host that goes down would: not Ready first, then drained. Its rules go with its namespace. */
  async stop(timeoutMs = 5_000): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    await ended;
    clearTimeout(timer);
  }

  async #intercept(action: "apply"): Promise<void> {
    const [program, ...args] = selfCommand("intercept", action, "--config", this.#rules);
    const { code, stderr } = await this.host.exec(program, args, { env: plainEnvironment() });
    if (code !== 0) throw new Error(`${this.host.name}: cannot apply the interception rules: ${stderr.trim()}`);
  }

  async #until(what: string, met: () => boolean | Promise<boolean>): Promise<void> {
    const outcome = await until(async () => (this.running ? await met() : "dead"));
    if (outcome === "dead") throw new Error(`the agent on ${this.host.name} ended:\n${lastWords(this.log)}`);
    if (!outcome) throw new Error(`the agent on ${this.host.name} takes too long ${what}:\n${lastWords(this.log)}`);
  }
}

/** Asks an agent over its control socket. Rejects if it cannot be asked. */
export function askAgent(socketPath: string, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const question = request({ socketPath, path, timeout: 2_000 }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => {
        try {
          resolve(JSON.parse(text));
        } catch (error) {
          reject(error);
        }
      });
      response.on("error", reject);
    });
    question.on("timeout", () => question.destroy(new Error("no answer")));
    question.on("error", reject);
    question.end();
  });
}

/** Gives a directory to the agents' user. */
export function ownedByAgent(path: string, mode: number): void {
  mkdirSync(path, { recursive: true });
  chownSync(path, AGENT_UID, AGENT_UID);
  chmodSync(path, mode);
}
