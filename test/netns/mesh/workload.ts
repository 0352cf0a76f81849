import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { loadKubeClient } from "../../../src/bootstrap/enroller/kubernetes-client.ts";
import { LIVENESS } from "../../../src/bootstrap/enroller/liveness.ts";
import {
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  readyCondition,
} from "../../../src/bootstrap/enroller/resources.ts";
import { LEASE } from "../../../src/bootstrap/interception/index.ts";
import { SAMPLE } from "../../../src/lab/sample.ts";
import { until } from "../../support/until.ts";
import { lastReady, type MeshSite, SSH_PORT } from "./site.ts";

// Ten seconds of silence, one sweep, one write, and a slow machine.
const NOT_READY_MS = 15_000;
// A second is what the binary has. From source every module's types are stripped on the way, on a machine shared with
// other suites: this only notices a start that waits for something.
const WARM_MS = 5_000;

/** The first VM's object, as kubectl prints it. */
async function workload(site: MeshSite): Promise<ExternalWorkload> {
  const name = workloadName(site);
  return JSON.parse(await site.kubectl("get", "externalworkload", name, "-n", SAMPLE.namespace, "-o", "json"));
}

function workloadName(site: MeshSite): string {
  const known = site.lab.hosts.find(({ name }) => name === SAMPLE.vm)?.workload;
  return known?.split("/")[1] ?? "";
}

async function readiness(site: MeshSite): Promise<string> {
  const condition = readyCondition(await workload(site));
  return `${condition?.status} ${condition?.reason}`;
}

export function registered(site: () => MeshSite): void {
  it("is Ready in the cluster, under its own name and with its own address", async () => {
    await until(async () => (await readiness(site())).startsWith("True"), "Ready");
    const { metadata, spec } = await workload(site());
    expect(metadata.labels).toMatchObject({ app: SAMPLE.group });
    expect(spec).toMatchObject({
      meshTLS: {
        identity: `spiffe://cluster.local/ns/${SAMPLE.namespace}/sa/${SAMPLE.group}`,
        serverName: `${SAMPLE.group}.${SAMPLE.namespace}.serviceaccount.identity.linkerd.cluster.local`,
      },
      workloadIPs: [{ ip: site().vm.host.ip }],
    });
    const columns = await site().kubectl("get", "externalworkloads", "-n", SAMPLE.namespace, "--no-headers");
    expect(columns).toContain(workloadName(site()));
  });
}

export function death(site: () => MeshSite): void {
  it("leaves the host as it would be without it, when its agent is killed", async () => {
    const { lab, outsider, gateway } = site();
    const vm = lab.host(SAMPLE.vm);
    const service = await site().kubectl(
      "get",
      "service",
      SAMPLE.pod,
      "-n",
      SAMPLE.namespace,
      "-o",
      "jsonpath={.spec.clusterIP}",
    );
    // The route to the cluster ends here: who gets through without the proxy is answered in plain.
    await gateway.exec("ip", ["addr", "add", `${service}/32`, "dev", "br0"]);
    await site().start(gateway, "peer.ts", ["direct", "80"]);
    const { stdout } = await lab.exec(SAMPLE.vm, "curl", ["-s", `http://${service}/`]);
    expect(JSON.parse(stdout)).toMatchObject({ app: SAMPLE.pod });
    // A young enroller does not take silence for death yet: that is another rule's test.
    await sleep(Math.max(0, site().enrollerSince + LIVENESS.graceMs - LIVENESS.silenceMs - performance.now()));

    const { pid } = site().vm;
    if (pid === undefined) throw new Error("the agent does not run");
    const killed = performance.now();
    process.kill(pid, "SIGKILL");
    await site().vm.ended();
    // Refused, not dropped: a client that waits for nothing is what the lease is for.
    expect(await site().dial(vm, service, 80)).toBe("ECONNREFUSED");
    expect(await site().dial(outsider, vm.ip, SAMPLE.port)).toBe("ECONNREFUSED");

    let answer = "";
    const freed = await until(
      async () => {
        answer = await site().dial(vm, service, 80);
        return answer !== "ECONNREFUSED" && performance.now() - killed;
      },
      "the end of the lease",
      LEASE.lastsMs + 2000,
    );
    expect(answer).toMatch(/^direct from/);
    expect(freed).toBeLessThan(LEASE.lastsMs + 1000);
    for (const ip of [vm.ip, vm.ip6])
      for (const port of [SAMPLE.port, SAMPLE.grpcPort, SAMPLE.tcpPort])
        expect(await site().dial(outsider, ip, port)).toBe("ECONNREFUSED");
    const notReady = await until(
      async () => (await readiness(site())).startsWith("False") && performance.now() - killed,
      "not Ready",
      NOT_READY_MS,
    );
    expect(notReady).toBeLessThan(NOT_READY_MS);
    expect(await readiness(site())).toBe("False HostUnreachable");
    console.log(`killed: direct after ${Math.round(freed)} ms, not Ready after ${Math.round(notReady)} ms`);
  });

  it("comes back with what it has stored, and without a join string", async () => {
    const { vm, lab } = site();
    expect(existsSync(`${vm.directory}/join`)).toBe(false);
    const began = Date.now();
    await vm.start();
    const tookMs = lastReady(vm) - began;
    console.log(`warm start, exec to ready: ${tookMs} ms`);
    expect(tookMs).toBeLessThan(WARM_MS);
    await until(async () => (await readiness(site())).startsWith("True"), "Ready again");
    console.log(`Ready in the cluster ${Date.now() - began} ms after the start`);
    const { stdout } = await lab.exec(SAMPLE.pod, "curl", [
      ...["-sS", "--retry", "5", "--retry-all-errors", "--retry-delay", "1"],
      `http://${SAMPLE.group}.${SAMPLE.namespace}.svc.cluster.local/`,
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ app: SAMPLE.vm });
  });
}

export function leaving(site: () => MeshSite): void {
  it("is not Ready first, then gone, when it leaves with `down`", async () => {
    const { lab, vm, outsider } = site();
    const seen: string[] = [];
    const stop = loadKubeClient({ kubeconfig: lab.kubeconfig }).watch<ExternalWorkload>(
      EXTERNAL_WORKLOADS,
      SAMPLE.namespace,
      (event) => {
        if (event.type === "SYNCED" || event.object.metadata.name !== workloadName(site())) return;
        seen.push(event.type === "DELETED" ? "deleted" : `Ready=${readyCondition(event.object)?.status}`);
      },
    );
    await until(() => seen.length > 0, "the watch");
    const { code, stdout, stderr } = await site().meshAgent(vm.host, ["down", "--socket", vm.socket]);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/left the mesh/i);
    expect(code).toBe(0);
    await until(() => seen.includes("deleted"), "deleted");
    await vm.ended();
    stop();
    // Each state once, however often the object was written.
    expect(seen.filter((state, index) => state !== seen[index - 1])).toEqual(["Ready=True", "Ready=False", "deleted"]);
    expect(await site().kubectl("get", "externalworkloads", "-n", SAMPLE.namespace, "-o", "name")).not.toContain(
      workloadName(site()),
    );
    expect(await site().dial(outsider, vm.host.ip, SSH_PORT)).toMatch(/^ssh from/);
  });

  it("has never stood in the way of an administrator's session, over IPv4 and IPv6", async () => {
    const { ssh } = site();
    const watched = JSON.parse((await ssh?.ask("report")) ?? "") as {
      readonly ip: string;
      readonly opened: number;
      readonly failed: readonly string[];
      readonly exchanged: number;
      readonly held: string;
    }[];
    expect(watched).toHaveLength(2);
    for (const { opened, failed, exchanged, held } of watched) {
      expect(failed).toEqual([]);
      expect(held).toBe("open");
      expect(opened).toBeGreaterThan(50);
      expect(exchanged).toBeGreaterThanOrEqual(opened);
    }
    console.log(
      `port 22: ${watched.map(({ ip, opened }) => `${opened} connections to ${ip}`).join(", ")}, none failed`,
    );
  });
}
