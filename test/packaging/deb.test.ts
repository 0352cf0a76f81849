import { basename } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab } from "../../src/lab/index.ts";
import { addPod, SAMPLE } from "../../src/lab/sample.ts";
import { deb as builtDeb } from "./built.ts";
import { Container } from "./container.ts";

const VM = "deb-vm";
const UNITS = [
  "mesh-agent.service",
  "mesh-agent-inbound.socket",
  "mesh-agent-outbound.socket",
  "mesh-agent-dns.socket",
  "mesh-agent-admin.socket",
  "mesh-agent-control.socket",
  "mesh-agent-intercept.service",
  "mesh-agent-intercept.path",
  "mesh-agent-names.service",
  "mesh-agent-names.path",
];

/** Everything on the host that a package might leave a trace in. */
function traces(container: Container): Record<string, string> {
  const shell = (line: string) => container.exec("sh", "-c", line).stdout;
  return {
    ruleset: shell("nft list ruleset"),
    rules: shell("ip rule; ip -6 rule"),
    routes: shell("ip route show table all; ip -6 route show table all | grep -v -E 'expires|fe80|ff00'"),
    users: shell("cat /etc/passwd /etc/group"),
    files: shell("find /etc /usr /lib /var/lib /run -xdev -iname '*mesh-agent*' | sort"),
    units: shell("systemctl list-unit-files --no-legend 'mesh-agent*'"),
    sysctls: shell("sysctl -a 2>/dev/null | grep -E 'rp_filter|ip_forward|route_localnet|src_valid_mark' | sort"),
    resolver: shell("cat /etc/resolv.conf"),
  };
}

describe("the Debian package, on a Debian 12 that systemd runs", () => {
  let deb: string;
  let lab: Lab;
  let vm: Container;
  let before: Record<string, string>;

  beforeAll(async () => {
    deb = await builtDeb();
    lab = await Lab.start();
    await addPod(lab);
    // The applications of the VM live in its network; the container is the rest of the machine.
    const host = await lab.addVm(VM, [
      { kind: "http", port: SAMPLE.port },
      { kind: "grpc", port: SAMPLE.grpcPort },
      { kind: "tcp", port: SAMPLE.tcpPort },
    ]);
    vm = await Container.boot(`/run/netns/${host.namespace}`);
    vm.run("sh", "-c", `echo nameserver ${lab.network.address(0, 10)} > /etc/resolv.conf`);
    before = traces(vm);
    vm.copyIn(deb, `/root/${basename(deb)}`);
  }, 900_000);

  afterAll(async () => {
    vm?.stop();
    await lab?.stop();
  }, 60_000);

  const status = () => {
    const { code, stdout } = vm.exec("mesh-agent", "status", "-o", "json");
    return code === 0 ? JSON.parse(stdout) : undefined;
  };
  const isReady = () => {
    const now = status();
    return now?.state === "ready" && now.registration?.ready === true && now.interception.v4 === true;
  };
  const fromPod = async () => {
    const { stdout } = await lab.exec(SAMPLE.pod, "curl", [
      "-sS",
      "-m",
      "10",
      `http://${SAMPLE.group}.${SAMPLE.namespace}.svc.cluster.local/p`,
    ]);
    return JSON.parse(stdout) as { app: string; client: string };
  };
  const callFromVm = () =>
    vm.exec("curl", "-sS", "-m", "10", `http://${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local/v`);
  const fromVm = () => JSON.parse(callFromVm().stdout) as { app: string; client: string };
  const bothWays = async () => {
    expect(await fromPod()).toMatchObject({
      app: VM,
      client: "web.shop.serviceaccount.identity.linkerd.cluster.local",
    });
    expect(fromVm()).toMatchObject({
      app: "web",
      client: "legacy-app.shop.serviceaccount.identity.linkerd.cluster.local",
    });
  };

  test("installs without a network, and starts nothing by itself", () => {
    vm.run("apt-get", "install", "-y", "-q", `/root/${basename(deb)}`);
    expect(vm.run("mesh-agent", "--version").trim()).toMatch(/^\d+\.\d+\.\d+$/);
    expect(vm.run("mesh-agent", "config", "check")).toContain("no errors");
    expect(vm.exec("systemctl", "is-active", "mesh-agent.service").stdout.trim()).toBe("inactive");
    expect(vm.exec("systemd-analyze", "verify", "--man=no", ...UNITS).stderr).toBe("");
  }, 120_000);

  test("a start without a join string says so in one line", async () => {
    vm.exec("systemctl", "start", "mesh-agent.service");
    await vm.until(
      "the unit has failed",
      () => vm.exec("systemctl", "is-failed", "mesh-agent.service").stdout.trim() === "failed",
    );
    const journal = vm.run("journalctl", "-u", "mesh-agent.service", "-o", "cat", "--no-pager");
    expect(journal).toContain("this host has not joined a mesh");
    expect(journal).toContain("mesh-agent up");
    expect(vm.run("systemctl", "show", "-p", "ExecMainStatus", "--value", "mesh-agent.service").trim()).toBe("65");
    vm.run("systemctl", "reset-failed", "mesh-agent.service");
  }, 60_000);

  test("a join string in its file and `systemctl enable --now` are all it takes", async () => {
    const { namespace, group, port, grpcPort, tcpPort } = SAMPLE;
    const { join: joinString } = await lab.invite({
      namespace,
      group,
      ports: [
        { name: "http", port },
        { name: "grpc", port: grpcPort },
        { name: "tcp", port: tcpPort },
      ],
      probe: `http:${port}/healthz`,
    });
    vm.run("sh", "-c", `umask 077; echo ${joinString} > /etc/mesh-agent/join`);
    vm.run("systemctl", "enable", "--now", "mesh-agent.service");
    await vm.until("registered, Ready and intercepted", isReady, 60_000);
    expect(vm.exists("/etc/mesh-agent/join")).toBe(false);
    expect(vm.exists("/var/lib/mesh-agent/join")).toBe(false);
    await bothWays();
  }, 120_000);

  test("the process has no capability, no way to get one, and nothing readable by others", () => {
    const pid = vm.run("systemctl", "show", "-p", "MainPID", "--value", "mesh-agent.service").trim();
    const proc = vm.run("cat", `/proc/${pid}/status`);
    expect(proc).toMatch(/^CapEff:\s+0+$/m);
    expect(proc).toMatch(/^CapBnd:\s+0+$/m);
    expect(proc).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(proc).toMatch(/^Seccomp:\s+2$/m);
    expect(vm.run("find", "/var/lib/mesh-agent", "-type", "f", "-perm", "/077")).toBe("");
    expect(
      vm.run("stat", "-c", "%a %U:%G", "/var/lib/mesh-agent", "/run/mesh-agent/control.sock").split("\n").slice(0, 2),
    ).toEqual(["700 mesh-agent:mesh-agent", "660 root:mesh-agent"]);
    const exposure = vm.run("systemd-analyze", "security", "--no-pager", "mesh-agent.service");
    const level = Number(/Overall exposure level for mesh-agent\.service: ([\d.]+)/.exec(exposure)?.[1]);
    process.stdout.write(`exposure level ${level}\n`);
    expect(level).toBeLessThanOrEqual(1.5);
  });

  test("`systemctl restart`: still meshed, without a join string", async () => {
    vm.run("systemctl", "restart", "mesh-agent.service");
    await vm.until("ready again", isReady, 60_000);
    await bothWays();
  }, 90_000);

  test("SIGKILL: new connections wait for the new process instead of being refused", async () => {
    const pid = vm.run("systemctl", "show", "-p", "MainPID", "--value", "mesh-agent.service").trim();
    vm.run("sh", "-c", `kill -9 ${pid}`);
    const started = Date.now();
    const answer = fromVm();
    process.stdout.write(`the first request after SIGKILL took ${Date.now() - started} ms\n`);
    expect(answer.app).toBe("web");
    await vm.until("ready again", isReady, 60_000);
    await bothWays();
  }, 90_000);

  test("a foreign flush of all rules is noticed and repaired", async () => {
    vm.run("nft", "flush", "ruleset");
    const started = Date.now();
    await vm.until("the table is back", () => vm.exec("nft", "list", "table", "inet", "mesh_agent").code === 0, 15_000);
    process.stdout.write(`the table was back after ${Date.now() - started} ms\n`);
    // Then a probe has to come through it before the kernel captures again; one that hangs meanwhile hides that for a second.
    await vm.until("a call comes through", () => callFromVm().code === 0, 10_000);
    process.stdout.write(`the mesh was back after ${Date.now() - started} ms\n`);
    await vm.until("intercepted again", isReady, 20_000);
    await bothWays();
  }, 60_000);

  test("a broken configuration is named with file, line and key, and costs nothing else", () => {
    const file = "/etc/mesh-agent/config.yaml";
    vm.run("cp", "-p", file, "/root/config.yaml");
    vm.run("sh", "-c", `printf 'inbound:\\n  port: 99999\\n' > ${file}`);
    const { code, stderr } = vm.exec("mesh-agent", "config", "check");
    expect(code).toBe(64);
    expect(stderr).toMatch(
      /^mesh-agent: \/etc\/mesh-agent\/config\.yaml:2: inbound\.port: expected a whole number from 1 to 65535, found 99999 — .*\n$/,
    );
    vm.run("cp", "-p", "/root/config.yaml", file);
  });

  test("`mesh-agent down` leaves in order: the workload is gone, the units rest, the rules are gone", async () => {
    const { code, stdout, stderr } = vm.exec("mesh-agent", "down");
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(stdout.split("\n")[0]).toContain("No new connection is captured");
    expect(vm.exec("systemctl", "is-active", "mesh-agent.service").stdout.trim()).toBe("inactive");
    expect(vm.exec("nft", "list", "table", "inet", "mesh_agent").code).not.toBe(0);
    expect(vm.exists("/var/lib/mesh-agent/membership.json")).toBe(false);
    const { stdout: answer } = await lab.exec(SAMPLE.pod, "curl", [
      "-s",
      "-m",
      "6",
      "-o",
      "/dev/null",
      "-w",
      "%{http_code}",
      `http://${SAMPLE.group}.${SAMPLE.namespace}.svc.cluster.local/`,
    ]);
    // No endpoint is left: the pod's proxy says so.
    expect(answer).toMatch(/^50[34]$/);
  }, 90_000);

  test("purge leaves no trace", async () => {
    vm.run("apt-get", "purge", "-y", "-q", "mesh-agent");
    expect(traces(vm)).toEqual(before);
    expect(JSON.parse(vm.run("curl", "-sS", "-m", "5", `http://127.0.0.1:${SAMPLE.port}/x`))).toMatchObject({
      app: VM,
    });
  }, 120_000);
});
