import { execFile } from "node:child_process";
import type { Logger } from "../proxy/core/log.ts";

/** What systemd is told about us. Does nothing where nobody listens (`NOTIFY_SOCKET` unset). */
export interface ServiceManager {
  /** Also makes this process the main one of its unit. Resolves when systemd has been told. */
  ready(status: string): Promise<void>;
  status(status: string): void;
  stopping(status: string): void;
  /** Starts to answer the watchdog, if there is one: `alive` is asked before each answer. */
  watchdog(alive: () => boolean): void;
  /** Says nothing more: another process speaks for the unit now. */
  silence(): void;
}

/** Talks through the `systemd-notify` program: no native addon, and `NotifyAccess=all` lets it speak for us. */
export function serviceManager(environment: NodeJS.ProcessEnv, log: Logger): ServiceManager {
  let listening = environment["NOTIFY_SOCKET"] !== undefined;
  const notify = (...words: string[]) =>
    new Promise<void>((resolve) => {
      if (!listening) return resolve();
      execFile("systemd-notify", [`--pid=${process.pid}`, ...words], (error) => {
        if (error !== null) log.warn("systemd was not notified", { why: error.message });
        resolve();
      });
    });
  return {
    ready: (status) => notify("--ready", `--status=${status}`),
    status: (status) => void notify(`--status=${status}`),
    stopping: (status) => void notify("STOPPING=1", `--status=${status}`),
    silence() {
      listening = false;
    },
    watchdog(alive) {
      const periodMs = Number(environment["WATCHDOG_USEC"] ?? 0) / 1_000;
      if (!listening || !(periodMs > 0)) return;
      // A third of the period: one lost answer is not the end.
      setInterval(() => void (alive() && notify("WATCHDOG=1")), periodMs / 3).unref();
    },
  };
}
