/** Many hosts at one replica, and its sudden death. `bench/load/hosts.ts` does the same with a thousand and real processes. */
import net, { type AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { Crowd, registerCrowd } from "../../../bench/load/crowd.ts";
import {
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  isReady,
  type KubeClient,
  LEASES,
} from "../../../src/bootstrap/enroller/index.ts";
import { Issuer } from "../../../src/bootstrap/enroller/issuer.ts";
import { EnrollerSite, MESH } from "../../support/enroller-site.ts";
import { until } from "../../support/until.ts";

const HOSTS = 60;
const LIVENESS = {
  silenceMs: 8_000,
  suspectMs: 4_000,
  partitionWindowMs: 10_000,
  partitionMin: 3,
  graceMs: 0,
  holdMs: 60_000,
};

let site: EnrollerSite;
const stops: (() => void)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) stop();
  await site.stop();
});

/** What a process that was killed still does to the API: nothing. */
function mortal(inner: KubeClient): { readonly client: KubeClient; die(): void } {
  let dead = false;
  const client = new Proxy(inner, {
    get(target, name: keyof KubeClient) {
      const method = target[name].bind(target) as (...args: unknown[]) => unknown;
      if (name !== "watch") return (...args: unknown[]) => (dead ? new Promise(() => {}) : method(...args));
      return (type: unknown, namespace: unknown, listener: (event: unknown) => void) =>
        method(type, namespace, (event: unknown) => !dead && listener(event));
    },
  });
  return {
    client,
    die() {
      dead = true;
    },
  };
}

/** A road to a port that can end, without a word to either side's programs. */
async function road(to: number): Promise<{ readonly address: string; cut(): void }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((near) => {
    const far = net.connect(to, "127.0.0.1");
    for (const [from, onto] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("error", () => {});
      from.on("close", () => onto.destroy());
      from.pipe(onto);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  stops.push(cut);
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, cut };
}

it("hosts of a replica that dies are at the other before anybody takes them for dead", {
  timeout: 120_000,
}, async () => {
  site = await EnrollerSite.start({ liveness: LIVENESS, heartbeatMs: 1_000 });
  const grave = mortal(site.kube);
  const doomed = await site.addReplica({ client: grave.client, liveness: LIVENESS, heartbeatMs: 1_000 });
  const toDoomed = await road(doomed.address.port);
  const { issuer, root } = site.ca;
  const signer = await Issuer.load(issuer.certificatePem, issuer.keyPem, [root.certificatePem], Date.now());
  const members = await registerCrowd(site.kube, signer, MESH, HOSTS);
  const crowd = new Crowd(members, MESH, [toDoomed.address, site.address]);
  stops.push(() => crowd.stop());
  const ready = async () =>
    (await site.kube.list<ExternalWorkload>(EXTERNAL_WORKLOADS, undefined)).filter((workload) => isReady(workload))
      .length;
  const withdrawn: string[] = [];
  stops.push(
    site.kube.watch<ExternalWorkload>(EXTERNAL_WORKLOADS, undefined, (event) => {
      if (event.type === "MODIFIED" && counting && !isReady(event.object)) withdrawn.push(event.object.metadata.name);
    }),
  );
  let counting = false;
  await crowd.start(100);
  await until(
    async () => crowd.attached()[toDoomed.address] === HOSTS && (await ready()) === HOSTS,
    "all Ready",
    60_000,
  );

  counting = true;
  site.kube.writes.length = 0;
  grave.die();
  toDoomed.cut();
  const died = performance.now();
  await until(() => crowd.attached()[site.address] === HOSTS, "all at the other replica", 30_000);
  console.log(`${HOSTS} hosts moved within ${Math.round(performance.now() - died)} ms`);
  // Longer than a dead replica's leases are believed.
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, 35_000 - (performance.now() - died))));
  expect(withdrawn).toEqual([]);
  expect(await ready()).toBe(HOSTS);
  // Every lease has its new holder, and nothing else was written but leases.
  expect(await site.kube.list(LEASES, "linkerd", "mesh-agent/host")).toHaveLength(HOSTS);
  expect(site.kube.writes.filter((write) => !write.includes("leases"))).toEqual([]);
});
