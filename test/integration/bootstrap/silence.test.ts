import { createHash } from "node:crypto";
import net, { type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { decodeJoinString, realScheduler, silentLog } from "../../../src/bootstrap/control/index.ts";
import { readyCondition, startEnroller } from "../../../src/bootstrap/enroller/index.ts";
import { LIVENESS } from "../../../src/bootstrap/enroller/liveness.ts";
import { AttachClient } from "../../../src/bootstrap/host/index.ts";
import { enrol } from "../../../src/bootstrap/identity/index.ts";
import { MemoryKube } from "../../support/memory-kube.ts";
import { installMesh, invite, testTerms, workloadOf } from "../../support/mesh-kube.ts";
import { testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

const GONE_WITHIN_MS = 15_000;

let kube: MemoryKube;
let rootPem: string;
let port: number;
const stops: (() => unknown)[] = [];

beforeEach(async () => {
  const ca = await testMeshCa();
  rootPem = ca.root.certificatePem;
  kube = new MemoryKube();
  await installMesh(kube, ca);
  const enroller = await startEnroller({
    client: kube,
    listen: { host: "127.0.0.1", port: 0 },
    version: "0.1.0",
    settleMs: { min: 20, max: 200 },
    captureNetworks: ["10.43.0.0/16"],
    // As in a cluster, but not for its first minute.
    liveness: { ...LIVENESS, graceMs: 0 },
  });
  stops.push(() => enroller.stop(0));
  ({ port } = enroller.address);
});

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** A cable that can be pulled: nothing passes any more, and nobody is told, as when a host loses its power. */
class Cable {
  readonly #sockets = new Set<net.Socket>();
  readonly #server = net.createServer((near) => this.#join(near));
  #cut = false;

  async plug(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  pull(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.pause();
  }

  push(): void {
    this.#cut = false;
    for (const socket of this.#sockets) socket.resume();
  }

  remove(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: net.Socket): void {
    const far = net.connect(port, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on("data", (chunk) => to.write(chunk));
      from.on("error", () => {});
      from.on("close", () => {
        this.#sockets.delete(from);
        if (!this.#cut) to.destroy();
      });
      if (this.#cut) from.pause();
    }
  }
}

async function hosts(count: number) {
  const joinString = await invite(kube, testTerms({ uses: count }), rootPem, `127.0.0.1:${port}`);
  return await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const cable = new Cable();
      stops.push(() => cable.remove());
      const machine = createHash("sha256").update(`vm-${index}`).digest("hex");
      const hostname = `vm-${index}`;
      const join = decodeJoinString(joinString);
      const enrolment = await enrol({ join, machine, hostname, version: "0.1.0", wallMs: Date.now });
      const { workload } = enrolment.configuration;
      const client = new AttachClient({
        workload,
        mesh: enrolment.configuration,
        enrollers: [await cable.plug()],
        identity: { current: () => enrolment.identity, subscribe: () => () => {} },
        machine,
        hostname,
        version: "0.1.0",
        scheduler: realScheduler,
        log: silentLog,
        addresses: () => [`192.0.2.${10 + index}`],
        handlers: {},
      });
      stops.push(() => client.stop());
      // Heartbeats of real hosts lie anywhere within their three seconds: so do these.
      await sleep(index * 900);
      client.start();
      client.setReadiness({ ready: true, reason: "", message: "" });
      const readiness = async () => {
        const object = await workloadOf(kube, workload.name);
        const { status, reason } = (object && readyCondition(object)) ?? {};
        return `${status} ${reason}`;
      };
      await until(async () => (await readiness()).startsWith("True"), "Ready");
      return { cable, readiness };
    }),
  );
}

it("takes one of four that loses its power out within 15 s; three of four at once stay", {
  timeout: 90_000,
}, async () => {
  const all = await hosts(4);
  const states = () => Promise.all(all.map(({ readiness }) => readiness()));
  const three = all.slice(0, 3);
  for (const { cable } of three) cable.pull();
  await until(
    async () => (await states()).filter((state) => state === "True SilenceHeld").length === 3,
    "held",
    20_000,
  );
  await sleep(3_000);
  expect(await states()).toEqual([...three.map(() => "True SilenceHeld"), "True Attached"]);
  for (const { cable } of three) cable.push();
  await until(async () => (await states()).every((state) => state === "True Attached"), "heard again", 30_000);

  const [lost] = all;
  const began = performance.now();
  lost?.cable.pull();
  await until(async () => (await lost?.readiness()) === "False HostUnreachable", "out of its Services", GONE_WITHIN_MS);
  console.log(`without power: not Ready after ${Math.round(performance.now() - began)} ms`);
  expect((await states()).slice(1)).toEqual(["True Attached", "True Attached", "True Attached"]);
});

it("does not guard fewer than three: both of two are taken out", { timeout: 60_000 }, async () => {
  const both = await hosts(2);
  for (const { cable } of both) cable.pull();
  for (const { readiness } of both)
    await until(async () => (await readiness()) === "False HostUnreachable", "taken out", GONE_WITHIN_MS);
});
