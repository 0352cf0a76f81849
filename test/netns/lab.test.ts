import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DemoReport } from "../../src/lab/demo/index.ts";
import { plainEnvironment, selfCommand } from "../../src/lab/self.ts";
import { LABS } from "../../src/lab/state.ts";

/** Runs this program to its end, as a user would. */
function meshAgent(arguments_: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const [program, ...rest] = selfCommand(...arguments_);
  return new Promise((resolve) => {
    const child = execFile(program, rest, { env: plainEnvironment(), timeout: 110_000 }, (_error, stdout, stderr) => {
      resolve({ code: child.exitCode, stdout, stderr });
    });
  });
}

const namespaces = (id: string) =>
  (existsSync("/run/netns") ? readdirSync("/run/netns") : []).filter((name) => name.startsWith(`ma-${id}-`));

const labsOf = (pid: number | undefined) =>
  readdirSync(LABS).filter((name) => readFileSync(`${LABS}/${name}/state.json`, "utf8").includes(`"pid": ${pid},`));

describe("the lab on the command line", () => {
  const id = `t${process.pid % 100_000}`;
  const kubectlScript = new URL("../../scripts/kubectl.sh", import.meta.url).pathname;

  beforeAll(async () => {
    const { code, stdout, stderr } = await meshAgent(["lab", "up", "--id", id]);
    expect(stderr).toBe("");
    expect(stdout).toContain("vm-1");
    expect(code).toBe(0);
  }, 120_000);

  afterAll(async () => {
    await meshAgent(["lab", "down", "--id", id]);
    expect(namespaces(id)).toEqual([]);
    expect(existsSync(`/run/mesh-agent-labs/${id}`)).toBe(false);
  }, 60_000);

  const curl = async (host: string, ...more: string[]) => {
    const { stdout } = await meshAgent(["lab", "exec", "--id", id, host, "--", "curl", "-sS", "-m", "10", ...more]);
    return JSON.parse(stdout);
  };

  it("shows itself", async () => {
    const { stdout } = await meshAgent(["lab", "status", "-o", "json"]);
    const lab = JSON.parse(stdout).find((other: { id: string }) => other.id === id);
    expect(lab.hosts.map((host: { name: string }) => host.name)).toEqual(["control-plane", "enroller", "web", "vm-1"]);
  });

  it("carries requests both ways with both identities", async () => {
    const toVm = await curl("web", "http://legacy-app.shop.svc.cluster.local/a");
    expect(toVm).toMatchObject({ app: "vm-1", client: "web.shop.serviceaccount.identity.linkerd.cluster.local" });
    const toPod = await curl("vm-1", "http://web/b", "--connect-to", "web::web.shop.svc.cluster.local:");
    expect(toPod).toMatchObject({
      app: "web",
      client: "legacy-app.shop.serviceaccount.identity.linkerd.cluster.local",
    });
  });

  it("passes on a program's exit status", async () => {
    expect((await meshAgent(["lab", "exec", "--id", id, "vm-1", "--", "sh", "-c", "exit 7"])).code).toBe(7);
    const nowhere = await meshAgent(["lab", "exec", "--id", id, "nowhere", "true"]);
    expect(nowhere.stderr).toContain("it has control-plane, enroller, web, vm-1");
    expect(nowhere.code).toBe(2);
  });

  it("answers kubectl from outside", async () => {
    const kubectl = execFileSync("sh", [kubectlScript], { encoding: "utf8" }).trim();
    const kubeconfig = (await meshAgent(["lab", "kubeconfig", "--id", id])).stdout.trim();
    const run = (...line: string[]) =>
      execFileSync(kubectl, ["--kubeconfig", kubeconfig, ...line], { encoding: "utf8" });
    const path = "{.items[0].status.conditions[?(@.type=='Ready')].status}";
    expect(run("get", "externalworkloads", "-n", "shop", "-o", `jsonpath=${path}`)).toBe("True");
    const slices = run("get", "endpointslices", "-n", "shop", "-o", "name");
    expect(slices).toMatch(/linkerd-external-legacy-app-/);
  }, 60_000);

  it("refuses a second lab of the same name", async () => {
    const { code, stderr } = await meshAgent(["lab", "up", "--id", id]);
    expect(code).toBe(1);
    expect(stderr).toContain("runs already");
  });
});

describe("the demo", () => {
  it("tells its story as JSON and cleans up", async () => {
    const { code, stdout, stderr } = await meshAgent(["demo", "--seconds", "2", "-o", "json"]);
    expect(code, stderr).toBe(0);
    const report = JSON.parse(stdout) as DemoReport;
    expect(report.workload.at(-1)).toMatchObject({
      ready: "True",
      identity: "spiffe://cluster.local/ns/shop/sa/legacy-app",
    });
    const http = report.calls.filter(({ request }) => request !== undefined);
    expect(http.map(({ request }) => request?.tls)).toEqual([true, true, true, true]);
    expect(http.map(({ request }) => request?.status)).toEqual([200, 200, 503, 200]);
    expect(report.calls.at(-1)?.answer).toContain("220 vm-1 ready");
    expect(report.golden.map(({ from, to }) => `${from} ${to}`)).toEqual(["web legacy-app", "vm-1 web"]);
    for (const way of report.golden) {
      expect(way.tlsShare).toBe(1);
      expect(way.requests).toBeGreaterThan(20);
      expect(way.successRate).toBeCloseTo(0.9, 1);
    }
  }, 120_000);

  it("cleans up after Ctrl-C", async () => {
    const [program, ...args] = selfCommand("demo");
    const child = spawn(program, args, { env: plainEnvironment(), stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    await new Promise<void>((resolve) => {
      child.stdout.on("data", (chunk) => {
        text += String(chunk);
        if (text.includes("starting the API")) resolve();
      });
    });
    // Others may have labs of their own on this machine.
    const id = labsOf(child.pid)[0] ?? "";
    expect(namespaces(id)).not.toEqual([]);
    const ended = once(child, "exit");
    child.kill("SIGINT");
    const [code] = await ended;
    expect(code).toBe(130);
    expect(namespaces(id)).toEqual([]);
    expect(existsSync(`${LABS}/${id}`)).toBe(false);
  }, 120_000);

  it("cleans up when nobody reads on, as with `demo | head -1`", async () => {
    const [program, ...args] = selfCommand("demo");
    const child = spawn(program, args, { env: plainEnvironment(), stdio: ["ignore", "pipe", "pipe"] });
    let complaints = "";
    child.stderr.on("data", (chunk) => {
      complaints += String(chunk);
    });
    const ended = once(child, "close");
    await once(child.stdout, "data");
    child.stdout.destroy();
    await ended;
    expect(complaints).toBe("");
    expect(labsOf(child.pid)).toEqual([]);
  }, 120_000);
});
