import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
const CACHE = join(ROOT, ".cache");
/** Debian 12, on which most is tested, and 13. */
export type DebianRelease = "bookworm" | "trixie";
// What a small server has, and what the package depends on: the tests install it without a network.
const PACKAGES = [
  "systemd",
  "systemd-sysv",
  "systemd-resolved",
  "dbus",
  "nftables",
  "iproute2",
  "procps",
  "curl",
  "python3-minimal",
  "openssh-server",
  "libatomic1",
  "libstdc++6",
];
/** RPM's own tools run on Debian too: a machine that has both, so that one tree serves the packages of either format. */
const MORE: Readonly<Record<DebianRelease, readonly string[]>> = { bookworm: ["rpm", "dnf"], trixie: [] };

/** Where this machine gets its Debian packages from. */
function mirror(): string {
  const lines = execFileSync("apt-get", ["indextargets", "--format", "$(SITE) $(CODENAME)"], { encoding: "utf8" });
  const site = lines
    .split("\n")
    .map((line) => line.split(" "))
    .find(([, codename]) => codename === "bookworm" || codename === "trixie")?.[0];
  if (site === undefined) throw new Error("apt knows no source of Debian");
  return site;
}

/** A tree of a release, made once per machine. Never booted itself: every container gets an overlay of its own. */
export function rootfs(release: DebianRelease = "bookworm"): string {
  const tree = join(CACHE, `${release}-rootfs-4`);
  if (existsSync(join(tree, "etc/debian_version"))) return tree;
  mkdirSync(CACHE, { recursive: true });
  const half = `${tree}.${process.pid}`;
  try {
    const include = [...PACKAGES, ...MORE[release]].join(",");
    execFileSync("debootstrap", ["--variant=minbase", `--include=${include}`, release, half, mirror()], {
      stdio: ["ignore", "ignore", "inherit"],
      timeout: 600_000,
    });
    // There for the test that starts it; the others have a plain resolv.conf.
    execFileSync("systemctl", [`--root=${half}`, "--quiet", "disable", "systemd-resolved.service"], {
      stdio: "ignore",
    });
    rmSync(join(half, "etc/resolv.conf"), { force: true });
    writeFileSync(join(half, "etc/resolv.conf"), "");
    renameSync(half, tree);
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
  return tree;
}

export interface Executed {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * A Debian machine with its own systemd, network namespace and overlay of the tree. Everything it made is gone after
 * {@link stop}; nothing outside it is touched.
 */
export class Container {
  readonly name: string;
  readonly directory: string;
  readonly #networkNamespace: string | undefined;
  #process: ChildProcess;
  #leader = 0;
  #console = "";

  private constructor(name: string, directory: string, networkNamespace: string | undefined) {
    this.name = name;
    this.directory = directory;
    this.#networkNamespace = networkNamespace;
    this.#process = this.#start();
  }

  /**
   * Boots one and waits until systemd says that it runs.
   *
   * @param networkNamespace - Path of a namespace to live in instead of one of its own.
   */
  static async boot(networkNamespace?: string, release?: DebianRelease): Promise<Container> {
    const tree = rootfs(release);
    const name = `ma-${randomBytes(4).toString("hex")}`;
    const directory = mkdtempSync(join(tmpdir(), `${name}-`));
    for (const part of ["upper", "work", "root"]) mkdirSync(join(directory, part));
    execFileSync("mount", [
      "-t",
      "overlay",
      "overlay",
      "-o",
      `lowerdir=${tree},upperdir=${join(directory, "upper")},workdir=${join(directory, "work")}`,
      join(directory, "root"),
    ]);
    const container = new Container(name, directory, networkNamespace);
    try {
      await container.#running();
    } catch (error) {
      container.stop();
      throw error;
    }
    return container;
  }

  #start(): ChildProcess {
    const child = spawn(
      "systemd-nspawn",
      [
        "--quiet",
        "--boot",
        this.#networkNamespace === undefined
          ? "--private-network"
          : `--network-namespace-path=${this.#networkNamespace}`,
        "--register=no",
        "--keep-unit",
        "--console=pipe",
        "--capability=CAP_NET_ADMIN",
        `--machine=${this.name}`,
        `--directory=${join(this.directory, "root")}`,
      ],
      { stdio: ["ignore", "pipe", "pipe"], detached: true },
    );
    child.stdout?.on("data", (chunk: Buffer) => {
      this.#console = (this.#console + chunk.toString()).slice(-20_000);
    });
    return child;
  }

  /**
   * Starts the same machine again. What a kernel would have forgotten of a network namespace that outlives it is the
   * caller's to take away, in `between`.
   */
  async reboot(how: "in order" | "power cut", between: () => void): Promise<void> {
    const ended = once(this.#process, "exit");
    if (how === "in order") this.exec("systemctl", "poweroff", "--no-block");
    else process.kill(this.#leader, "SIGKILL");
    const limit = setTimeout(() => process.kill(this.#leader, "SIGKILL"), 60_000);
    await ended;
    clearTimeout(limit);
    this.#leader = 0;
    between();
    this.#process = this.#start();
    await this.#running();
  }

  /** Process id of the container's own init, as seen from outside. */
  get leader(): number {
    return this.#leader;
  }

  /** Runs a command in the container's namespaces, as root. */
  exec(...command: readonly string[]): Executed {
    try {
      const stdout = execFileSync("nsenter", [...this.#enter(), ...command], {
        encoding: "utf8",
        timeout: 120_000,
        stdio: ["ignore", "pipe", "pipe"],
        env: ENVIRONMENT,
      });
      return { code: 0, stdout, stderr: "" };
    } catch (error) {
      const failed = error as { status?: number | null; stdout?: string; stderr?: string };
      return { code: failed.status ?? -1, stdout: failed.stdout ?? "", stderr: failed.stderr ?? "" };
    }
  }

  /** {@link exec} that must succeed; its standard output. */
  run(...command: readonly string[]): string {
    const { code, stdout, stderr } = this.exec(...command);
    if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${stderr || stdout}`);
    return stdout;
  }

  /** A command that goes on beside the test. */
  spawn(...command: readonly string[]): ChildProcess {
    return spawn("nsenter", [...this.#enter(), ...command], { stdio: ["ignore", "pipe", "pipe"], env: ENVIRONMENT });
  }

  copyIn(from: string, to: string): void {
    cpSync(from, join(this.directory, "root", to), { recursive: true });
  }

  read(path: string): string {
    return readFileSync(join(this.directory, "root", path), "utf8");
  }

  exists(path: string): boolean {
    return existsSync(join(this.directory, "root", path));
  }

  /** Asks until the answer is yes. @throws with the container's last words otherwise. */
  async until(what: string, yes: () => boolean, timeoutMs = 30_000): Promise<void> {
    const end = Date.now() + timeoutMs;
    while (Date.now() < end) {
      if (yes()) return;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    throw new Error(`not in ${timeoutMs} ms: ${what}\n${this.recent()}`);
  }

  /** The last words of its journal. */
  recent(): string {
    return this.exec("journalctl", "-n", "40", "--no-pager", "-o", "cat").stdout;
  }

  /** Ends everything in it and takes the overlay away. Harmless when repeated. */
  stop(): void {
    const { pid } = this.#process;
    try {
      // The leader of the container's process namespace: the kernel ends the rest with it.
      if (this.#leader > 0) process.kill(this.#leader, "SIGKILL");
    } catch {
      // Already gone.
    }
    try {
      if (pid !== undefined) process.kill(-pid, "SIGKILL");
    } catch {
      // Already gone.
    }
    for (let attempt = 0; attempt < 20; attempt++) {
      try {
        execFileSync("umount", [join(this.directory, "root")], { stdio: "ignore" });
        break;
      } catch {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
      }
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  #enter(): string[] {
    return ["--target", String(this.#leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--"];
  }

  async #running(): Promise<void> {
    const end = Date.now() + 90_000;
    while (Date.now() < end) {
      if (this.#process.exitCode !== null) throw new Error(`systemd-nspawn ended: ${this.#console}`);
      this.#leader = this.#findLeader();
      if (this.#leader > 0) {
        const state = this.exec("systemctl", "is-system-running").stdout.trim();
        if (state === "running" || state === "degraded") return;
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    throw new Error(`the container did not boot: ${this.#console}`);
  }

  // systemd-nspawn's child is the container's init.
  #findLeader(): number {
    const { pid } = this.#process;
    if (pid === undefined) return 0;
    try {
      return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0]) || 0;
    } catch {
      return 0;
    }
  }
}

const ENVIRONMENT = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LANG: "C.UTF-8",
  HOME: "/root",
};
