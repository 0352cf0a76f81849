import { type ChildProcess, spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { isSea } from "node:sea";
import { CommandError, EXIT } from "./exit.ts";
import { FIRST_FD, type ListenerFds } from "./listeners.ts";

/*
 * A hot upgrade, as two processes see it:
 *
 *   predecessor   serves ─ starts the program on the disk, sockets inherited ─ serves ─────────── "ready" ─ drains ─ ends
 *   successor                └ starts ─ workers accept ─ admin and control ─ main process of the unit ┘ ─ attaches ─ serves
 *
 * Both accept from the same sockets until the predecessor stops: no connection finds nobody. If the successor ends before
 * it says "ready", nothing has changed. If it has a successor of its own before the predecessor has drained, it says
 * "passed on": its end is then no reason to hurry.
 */

const PREDECESSOR = "MESH_AGENT_PREDECESSOR";
const HANDOVER_FD = "MESH_AGENT_HANDOVER_FD";
const READY = "ready\n";
const PASSED_ON = "passed on\n";
// Above a cold start on a busy host; below TimeoutStartSec=, which bounds a reload too.
const READY_WITHIN_MS = 60_000;

/** The process that has taken over. */
export interface Successor {
  readonly pid: number;
  /** False once it has ended. */
  readonly alive: boolean;
}

/**
 * Starts the program that lies on the disk now, with the same arguments, on the same listening sockets, and waits until
 * it serves.
 * @param ended - The successor ended later on, and passed its place on to nobody: systemd ends whoever still drains.
 * @throws CommandError (75) if it ended or was not ready in time; it is gone then.
 */
export function startSuccessor(listeners: ListenerFds, ended: () => void): Promise<Successor> {
  const fds = [...listeners].flatMap(([role, list]) => list.map((fd) => ({ role, fd })));
  const { LISTEN_PID, WATCHDOG_PID, ...environment } = process.env;
  const own = isSea() ? [] : [...process.execArgv, process.argv[1] ?? ""];
  const child = spawn(process.execPath, [...own, ...process.argv.slice(2)], {
    stdio: ["ignore", "inherit", "inherit", ...fds.map(({ fd }) => fd), "pipe"],
    env: {
      ...environment,
      LISTEN_FDS: String(fds.length),
      LISTEN_FDNAMES: fds.map(({ role }) => role).join(":"),
      [PREDECESSOR]: String(process.pid),
      [HANDOVER_FD]: String(FIRST_FD + fds.length),
    },
  });
  return serving(child, FIRST_FD + fds.length, ended);
}

function serving(child: ChildProcess, handover: number, ended: () => void): Promise<Successor> {
  return new Promise((resolve, reject) => {
    let ready = false;
    let said = "";
    const refused = (why: string) =>
      reject(
        new CommandError(
          EXIT.tryAgain,
          `the new process ${why}; the running one stays`,
          "journalctl -u mesh-agent -n 20 tells why",
        ),
      );
    const limit = setTimeout(() => {
      child.kill("SIGKILL");
      refused(`was not ready within ${READY_WITHIN_MS / 1_000} s`);
    }, READY_WITHIN_MS);
    child.once("error", (error) => {
      clearTimeout(limit);
      refused(`could not be started: ${error.message}`);
    });
    // Not `exit`: what it said last is heard first.
    child.once("close", (code, signal) => {
      clearTimeout(limit);
      if (!ready) refused(signal === null ? `ended with status ${code}` : `was ended by ${signal}`);
      else if (!said.endsWith(PASSED_ON)) ended();
    });
    const line = child.stdio[handover];
    line?.on("error", () => {});
    line?.on("data", (chunk: Buffer) => {
      said += chunk;
      if (ready || child.pid === undefined || !said.startsWith(READY)) return;
      ready = true;
      clearTimeout(limit);
      resolve({
        pid: child.pid,
        get alive() {
          return child.exitCode === null && child.signalCode === null;
        },
      });
    });
  });
}

/** What a process knows that was started by {@link startSuccessor}. */
export interface Predecessor {
  readonly pid: number;
  /** Tells it that we serve: it drains from then on. */
  ready(): void;
  /** Tells it that another serves in our place: our end is none of its business any more. It may be gone by now. */
  passedOn(): void;
}

/** undefined in a process that nobody is waiting for. The words are taken out of the environment: they hold once. */
export function readPredecessor(environment: NodeJS.ProcessEnv): Predecessor | undefined {
  const pid = Number(environment[PREDECESSOR]);
  const fd = Number(environment[HANDOVER_FD]);
  delete environment[PREDECESSOR];
  delete environment[HANDOVER_FD];
  if (pid !== process.ppid || !Number.isInteger(fd) || fd < FIRST_FD) return undefined;
  return {
    pid,
    ready() {
      writeSync(fd, READY);
    },
    passedOn() {
      try {
        writeSync(fd, PASSED_ON);
      } catch {
        // It has drained.
      }
    },
  };
}
