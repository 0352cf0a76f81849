/**
 * What a thousand attached hosts cost one enroller, and what they notice when it dies: two replicas of the real
 * command against the lab's API over HTTPS, and the agent's own attach client a thousand times.
 *
 *   BENCH_HOSTS=1000 BENCH_SECONDS=60 node bench/load/hosts.ts
 *
 * Prints a table; `RESULTS.md` keeps it by hand, since nothing here is compared with anything.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { MeshNames } from "../../src/bootstrap/control/index.ts";
import { Issuer } from "../../src/bootstrap/enroller/issuer.ts";
import { type ExternalWorkload, isReady } from "../../src/bootstrap/enroller/resources.ts";
import { kubeconfig, LabKubeClient, LabStore, selfSigned, startApi, TYPES } from "../../src/lab/api/index.ts";
import { createPki } from "../../src/lab/pki.ts";
import { NAMESPACE, registerCrowd } from "./crowd.ts";
import { cpuSeconds, freePort, rssMb, startService, stopServices } from "./processes.ts";

const HOSTS = Number(process.env["BENCH_HOSTS"] ?? 1000);
const SECONDS = Number(process.env["BENCH_SECONDS"] ?? 60);
const PER_SECOND = 50;
const MESH: MeshNames = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };
// A replica's hosts have 30 s to attach elsewhere; then they would be judged.
const WATCH_AFTER_MS = 45_000;

const folder = mkdtempSync(join(tmpdir(), "mesh-agent-hosts-"));
let crowd: ChildProcess | undefined;
process.once("exit", () => {
  crowd?.kill("SIGKILL");
  stopServices();
  rmSync(folder, { recursive: true, force: true });
});
process.once("SIGINT", () => process.exit(130));

const base64 = (text: string) => Buffer.from(text).toString("base64");
const object = (kind: string, name: string, rest: object) =>
  ({ apiVersion: "v1", kind, metadata: { name, namespace: MESH.controlPlaneNamespace }, ...rest }) as never;

const store = new LabStore({});
const pki = await createPki(MESH.trustDomain);
for (const name of [MESH.controlPlaneNamespace, NAMESPACE])
  store.put(TYPES.namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
store.put(
  TYPES.secrets,
  object("Secret", "linkerd-identity-issuer", {
    type: "linkerd.io/tls",
    data: { "crt.pem": base64(pki.issuer.certificatePem), "key.pem": base64(pki.issuer.keyPem) },
  }),
);
store.put(
  TYPES.configMaps,
  object("ConfigMap", "linkerd-identity-trust-roots", { data: { "ca-bundle.crt": pki.root.certificatePem } }),
);
const tls = await selfSigned(["127.0.0.1"]);
const api = await startApi(store, { listen: [{ host: "127.0.0.1", port: 0 }], tls });
const config = join(folder, "kubeconfig");
const server = `https://127.0.0.1:${api.ports[0]}`;
writeFileSync(config, kubeconfig({ server, certificateAuthority: tls.cert }), { mode: 0o600 });

const writes = new Map<string, number>();
const flaps: string[] = [];
store.watch(({ resourceType, type, object: stored, previous }) => {
  const kind = `${type} ${resourceType.plural}`;
  writes.set(kind, (writes.get(kind) ?? 0) + 1);
  if (resourceType.plural !== "externalworkloads" || previous === undefined) return;
  if (isReady(previous as ExternalWorkload) && !isReady(stored as ExternalWorkload)) flaps.push(stored.metadata.name);
});

const issuer = await Issuer.load(pki.issuer.certificatePem, pki.issuer.keyPem, [pki.root.certificatePem], Date.now());
const members = await registerCrowd(new LabKubeClient(store), issuer, MESH, HOSTS);
console.log(`${HOSTS} hosts registered`);

const ports = [await freePort(), await freePort()] as const;
const first = await startEnroller(ports[0]);
const second = await startEnroller(ports[1]);
const idleMb = rssMb(first);

let attached: Readonly<Record<string, number>> = {};
let failures: Readonly<Record<string, number>> = {};
const file = join(folder, "crowd.json");
const addresses = ports.map((port) => `127.0.0.1:${port}`);
writeFileSync(file, JSON.stringify({ members, mesh: MESH, enrollers: addresses, perSecond: PER_SECOND }), {
  mode: 0o600,
});
crowd = spawn(process.execPath, [join(import.meta.dirname, "crowd-process.ts"), file], {
  stdio: ["ignore", "pipe", "inherit"],
});
createInterface({ input: crowd.stdout as NonNullable<ChildProcess["stdout"]> }).on("line", (line) => {
  ({ attached, failures } = JSON.parse(line));
});

const ready = () =>
  store.list<ExternalWorkload>(TYPES.externalWorkloads, undefined).filter((workload) => isReady(workload)).length;
const began = performance.now();
await reached(() => attached[addresses[0] as string] === HOSTS && ready() === HOSTS, 300);
const joinedSeconds = (performance.now() - began) / 1000;
console.log(`all attached and Ready after ${joinedSeconds.toFixed(1)} s`);

const steady = await measure(first, SECONDS);
flaps.length = 0;
console.log("killing the replica that holds them all");
process.kill(first, "SIGKILL");
const killed = performance.now();
await reached(() => attached[addresses[1] as string] === HOSTS, 120);
const movedSeconds = (performance.now() - killed) / 1000;
await sleep(Math.max(0, WATCH_AFTER_MS - (performance.now() - killed)));
const after = await measure(second, Math.min(SECONDS, 30));

console.log(`
${HOSTS} hosts, ${cpus()[0]?.model.trim()}, ${cpus().length} cores; Node ${process.version}

| | |
| --- | ---: |
| resident memory of the replica, no host / all hosts, MB | ${idleMb.toFixed(0)} / ${steady.rssMb.toFixed(0)} |
| CPU of the replica, % of one core | ${steady.cpuPercent.toFixed(1)} |
| API writes per second | ${steady.writes.toFixed(1)} (${steady.kinds}) |
| attached and Ready, ${PER_SECOND} a second asked for, s | ${joinedSeconds.toFixed(1)} |
| replica killed: all attached to the other after, s | ${movedSeconds.toFixed(1)} |
| Ready withdrawn meanwhile and for ${WATCH_AFTER_MS / 1000} s after the kill | ${flaps.length} |
| the other replica afterwards: memory, MB; CPU, %; API writes/s | ${after.rssMb.toFixed(0)}; ${after.cpuPercent.toFixed(1)}; ${after.writes.toFixed(1)} |
`);
console.log("why hosts were not attached for a moment:", failures);
process.exit(flaps.length === 0 && ready() === HOSTS ? 0 : 1);

async function startEnroller(port: number): Promise<number> {
  const main = join(import.meta.dirname, "../../src/agent/main.ts");
  const command = [
    process.execPath,
    main,
    "enroller",
    "--kubeconfig",
    config,
    "--listen",
    `127.0.0.1:${port}`,
    "--admin",
    "127.0.0.1:0",
  ];
  return (
    await startService(
      [...command, "--capture", "10.43.0.0/16", "--log-level", process.env["BENCH_LOG"] ?? "error"],
      port,
    )
  ).pid;
}

async function reached(there: () => boolean, limitSeconds: number): Promise<void> {
  const end = performance.now() + limitSeconds * 1000;
  while (!there()) {
    if (performance.now() > end)
      throw new Error(`not within ${limitSeconds} s: ${JSON.stringify(attached)}, ${ready()} Ready`);
    await sleep(100);
  }
}

/** What a replica costs while nothing happens but heartbeats. */
async function measure(pid: number, seconds: number) {
  const cpu = cpuSeconds(pid);
  writes.clear();
  await sleep(seconds * 1000);
  const total = [...writes.values()].reduce((sum, count) => sum + count, 0);
  const kinds = [...writes].map(([kind, count]) => `${kind}: ${(count / seconds).toFixed(1)}`).join(", ");
  return { rssMb: rssMb(pid), cpuPercent: ((cpuSeconds(pid) - cpu) / seconds) * 100, writes: total / seconds, kinds };
}
