import { type ChildProcess, execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "vitest";
import type { AgentStatus } from "../../src/agent/status.ts";
import { type Host, Lab } from "../../src/lab/index.ts";
import { addPod, SAMPLE } from "../../src/lab/sample.ts";
import { Container, type DebianRelease } from "./container.ts";
import type { LoadOptions, LoadReport } from "./load.ts";

const LOAD = join(import.meta.dirname, "load.ts");

/** A Debian machine that systemd runs, joined to a lab's mesh by the package. */
export class MeshedMachine {
  readonly name: string;
  readonly lab: Lab;
  readonly host: Host;
  readonly vm: Container;
  readonly #loads = new Set<Load>();

  private constructor(name: string, lab: Lab, host: Host, vm: Container) {
    this.name = name;
    this.lab = lab;
    this.host = host;
    this.vm = vm;
  }

  /** A lab with a pod, and a booted machine in its network with the package installed. */
  static async boot(name: string, deb: string, release?: DebianRelease): Promise<MeshedMachine> {
    const lab = await Lab.start();
    try {
      await addPod(lab);
      const host = await lab.addVm(name, [
        { kind: "http", port: SAMPLE.port },
        { kind: "grpc", port: SAMPLE.grpcPort },
        { kind: "tcp", port: SAMPLE.tcpPort },
      ]);
      const vm = await Container.boot(`/run/netns/${host.namespace}`, release);
      const machine = new MeshedMachine(name, lab, host, vm);
      vm.run("sh", "-c", `echo nameserver ${lab.network.address(0, 10)} > /etc/resolv.conf`);
      machine.install(deb);
      return machine;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  install(deb: string): void {
    this.vm.copyIn(deb, `/root/${basename(deb)}`);
    this.vm.run("apt-get", "install", "-y", "-q", "--allow-downgrades", `/root/${basename(deb)}`);
  }

  /** A fresh join string for this machine's group. */
  async invite(): Promise<string> {
    const { namespace, group, port, grpcPort, tcpPort } = SAMPLE;
    const { join: line } = await this.lab.invite({
      namespace,
      group,
      ports: [
        { name: "http", port },
        { name: "grpc", port: grpcPort },
        { name: "tcp", port: tcpPort },
      ],
      probe: `http:${port}/healthz`,
    });
    return line;
  }

  async join(): Promise<void> {
    this.vm.run("mesh-agent", "up", await this.invite(), "--yes");
    await this.vm.until("registered, Ready and intercepted", () => this.isReady(), 60_000);
  }

  status(): AgentStatus | undefined {
    const { code, stdout } = this.vm.exec("mesh-agent", "status", "-o", "json");
    return code === 0 ? (JSON.parse(stdout) as AgentStatus) : undefined;
  }

  isReady(): boolean {
    const now = this.status();
    return now?.state === "ready" && now.registration?.ready === true && now.interception.v4;
  }

  mainPid(): number {
    return Number(this.vm.run("systemctl", "show", "-p", "MainPID", "--value", "mesh-agent.service"));
  }

  /** Whether that process exists. */
  runs(pid: number): boolean {
    return this.vm.exec("test", "-d", `/proc/${pid}`).code === 0;
  }

  journal(): string {
    return this.vm.run("journalctl", "-u", "mesh-agent.service", "-o", "cat", "--no-pager");
  }

  /** One request of the pod to this machine's application, by name. */
  async fromPod(): Promise<{ app: string; client: string }> {
    const url = `http://${SAMPLE.group}.${SAMPLE.namespace}.svc.cluster.local/p`;
    return JSON.parse((await this.lab.exec(SAMPLE.pod, "curl", ["-sS", "-m", "10", url])).stdout);
  }

  /** One request of this machine to the pod, by name. */
  fromVm(): { app: string; client: string } {
    const url = `http://${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local/v`;
    return JSON.parse(this.vm.run("curl", "-sS", "-m", "10", url));
  }

  async bothWays(): Promise<void> {
    expect(await this.fromPod()).toMatchObject({
      app: this.name,
      client: "web.shop.serviceaccount.identity.linkerd.cluster.local",
    });
    expect(this.fromVm()).toMatchObject({
      app: "web",
      client: "legacy-app.shop.serviceaccount.identity.linkerd.cluster.local",
    });
  }

  /** Traffic from here to the pod, or from the pod to here, until {@link Load.end}. */
  async load(from: "vm" | "pod", options: Partial<LoadOptions>): Promise<Load> {
    const service = from === "vm" ? SAMPLE.pod : SAMPLE.group;
    const whole: LoadOptions = {
      host: `${service}.${SAMPLE.namespace}.svc.cluster.local`,
      fresh: 0,
      kept: 0,
      calls: 0,
      streams: 0,
      grpcPort: SAMPLE.grpcPort,
      opaque: 0,
      tcpPort: SAMPLE.tcpPort,
      seconds: 240,
      ...options,
    };
    const namespace = from === "vm" ? this.host : this.lab.host(SAMPLE.pod);
    const child = namespace.spawn(process.execPath, [LOAD, JSON.stringify(whole)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const load = new Load(child);
    this.#loads.add(load);
    await load.started;
    return load;
  }

  /** What a test that failed has left running would be the next one's load. */
  endLoads(): void {
    for (const load of this.#loads) load.kill();
    this.#loads.clear();
  }

  /** The lab's network namespace stays over it, so what only a kernel remembers is taken out of that. */
  async reboot(how: "in order" | "power cut"): Promise<void> {
    const forget = [
      "nft flush ruleset",
      ...["-4", "-6"].flatMap((family) => [
        `while ip ${family} rule del priority 1040 2>/dev/null; do :; done`,
        `ip ${family} route flush table 4140`,
      ]),
      "ip link delete mesh-dns 2>/dev/null || true",
    ];
    await this.vm.reboot(how, () => {
      execFileSync("ip", ["netns", "exec", this.host.namespace, "sh", "-c", forget.join("; ")], { stdio: "ignore" });
    });
  }

  async stop(): Promise<void> {
    this.vm.stop();
    await this.lab.stop();
  }
}

/** Traffic that is under way. */
export class Load {
  readonly started: Promise<void>;
  readonly #child: ChildProcess;
  readonly #report: Promise<LoadReport>;

  constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout === null) throw new Error("no standard output");
    const lines = createInterface({ input: child.stdout });
    this.started = once(lines, "line").then(() => {});
    this.#report = this.started.then(async () => JSON.parse(String((await once(lines, "line"))[0])) as LoadReport);
  }

  end(): Promise<LoadReport> {
    this.#child.stdin?.end();
    return this.#report;
  }

  /** Harmless once it has ended. */
  kill(): void {
    this.#report.catch(() => {});
    this.#child.kill("SIGKILL");
  }
}

/** The same package under another version, its units and files changed by `change` if that is given. */
export function repackage(deb: string, version: string, change?: (tree: string) => void): string {
  const work = mkdtempSync(join(tmpdir(), "mesh-agent-deb-"));
  try {
    const tree = join(work, "tree");
    execFileSync("dpkg-deb", ["--raw-extract", deb, tree]);
    const control = join(tree, "DEBIAN/control");
    writeFileSync(control, readFileSync(control, "utf8").replace(/^Version: .*$/m, `Version: ${version}`));
    change?.(tree);
    const out = join(tmpdir(), `mesh-agent_${version}_${process.pid}.deb`);
    // Not compressed: it lives for one test.
    execFileSync("dpkg-deb", ["--root-owner-group", "-Znone", "--build", tree, out], { stdio: "ignore" });
    return out;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
