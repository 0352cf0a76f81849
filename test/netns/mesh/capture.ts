import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Host } from "../../../src/lab/netns.ts";
import { readFrames } from "../../support/pcap.ts";

// What the kernel holds back before it hands frames to tcpdump.
const SETTLE_MS = 300;

/** Everything that passes a host's link, in both directions, as a wiretap between the hosts would record it. */
export class Capture {
  readonly #child: ChildProcess;
  readonly #file: string;

  private constructor(child: ChildProcess, file: string) {
    this.#child = child;
    this.#file = file;
  }

  static async start(host: Host, file: string): Promise<Capture> {
    // -U: nothing stays in tcpdump's own buffer; -Z root: the directory is root's; -B: 32 MiB, so that nothing is dropped.
    const args = ["-i", "eth0", "-U", "-s", "0", "-B", "32768", "-Z", "root", "-w", file];
    const child = host.spawn("tcpdump", args, { stdio: ["ignore", "ignore", "pipe"] });
    const capture = new Capture(child, file);
    let text = "";
    for await (const chunk of child.stderr ?? []) {
      text += String(chunk);
      if (text.includes("listening on")) return capture;
    }
    throw new Error(`tcpdump: ${text}`);
  }

  /** Ends it. @throws Error if a frame was lost: a capture with holes proves nothing. */
  async stop(): Promise<Buffer[]> {
    await sleep(SETTLE_MS);
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGINT");
    await ended;
    return readFrames(readFileSync(this.#file));
  }
}
