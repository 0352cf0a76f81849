import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { join } from "node:path";
import { type ControlPlaneOptions, type Order, startControlPlane } from "./control-plane.ts";
import { lastWords } from "./last-words.ts";
import type { Host } from "./netns.ts";
import { plainEnvironment, selfCommand } from "./self.ts";

/** What passes between the lab and its control plane, which lives in a namespace and so in a process of its own. */
type Request = { readonly id: number; readonly order: Order };
type Reply = { readonly id: number; readonly error?: string };

/** The id of the first reply: it is up. */
const UP = 0;

/** The child's side: runs a control plane until the lab goes away. */
export async function serveControlPlane(options: ControlPlaneOptions): Promise<void> {
  const send = (reply: Reply) => process.send?.(reply);
  process.on("disconnect", () => process.exit(0));
  // Ctrl-C on a terminal reaches every process; the lab takes this one down when the others no longer need it.
  process.on("SIGINT", () => {});
  try {
    const controlPlane = await startControlPlane(options);
    process.on("message", ({ id, order }: Request) => {
      controlPlane.carryOut(order).then(
        () => send({ id }),
        (error: unknown) => send({ id, error: textOf(error) }),
      );
    });
    send({ id: UP });
  } catch (error) {
    send({ id: UP, error: textOf(error) });
    process.exitCode = 1;
    process.disconnect?.();
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The lab's side. */
export class ControlPlaneProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  #next = UP + 1;
  #dead: Error | undefined;

  private constructor(child: ChildProcess, log: string) {
    this.#child = child;
    child.on("message", ({ id, error }: Reply) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve();
      else waiting?.reject(new Error(error));
    });
    child.on("exit", () => {
      this.#dead = new Error(`the control plane ended:\n${lastWords(log)}`);
      for (const { reject } of this.#waiting.values()) reject(this.#dead);
      this.#waiting.clear();
    });
  }

  /** Starts it on a host. Rejects with its own words if it cannot start. */
  static async start(host: Host, directory: string): Promise<ControlPlaneProcess> {
    const log = join(directory, "control-plane.log");
    const output = openSync(log, "a", 0o600);
    const options: ControlPlaneOptions = { host: host.ip, directory };
    const [program, ...args] = selfCommand("lab", "control-plane", JSON.stringify(options));
    const child = host.spawn(program, args, { env: plainEnvironment(), stdio: ["ignore", output, output, "ipc"] });
    const controlPlane = new ControlPlaneProcess(child, log);
    await controlPlane.#reply(UP);
    return controlPlane;
  }

  /** Rejects with the control plane's words if it cannot. */
  async carryOut(order: Order): Promise<void> {
    if (this.#dead !== undefined) throw this.#dead;
    const request: Request = { id: this.#next++, order };
    const done = this.#reply(request.id);
    this.#child.send(request);
    await done;
  }

  async stop(): Promise<void> {
    if (this.#dead !== undefined) return;
    const ended = once(this.#child, "exit");
    this.#child.disconnect();
    await ended;
  }

  #reply(id: number): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}
