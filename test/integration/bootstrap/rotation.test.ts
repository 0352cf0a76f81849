import { fork } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { decodeJoinString, realScheduler, silentLog } from "../../../src/bootstrap/control/index.ts";
import {
  CONFIG_MAPS,
  type ConfigMap,
  type KubeObject,
  type ResourceType,
  SECRETS,
  type Secret,
  startEnroller,
} from "../../../src/bootstrap/enroller/index.ts";
import { AttachClient } from "../../../src/bootstrap/host/index.ts";
import { acceptAnchors, EnrolledIdentity, enrol } from "../../../src/bootstrap/identity/index.ts";
import type { WorkloadIdentity } from "../../../src/proxy/core/identity.ts";
import { MemoryKube } from "../../support/memory-kube.ts";
import { installMesh, invite, testTerms } from "../../support/mesh-kube.ts";
import type { HostNews, HostPorts } from "../../support/meshed-host.ts";
import type { LoadOptions, LoadReport } from "../../support/steady-load.ts";
import { type TestPair, testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

const PER_SECOND = 500;
const FRESH_EVERY = 10;
// By hand each state of the mesh is looked at for longer, and the rate must be what is asked for.
const FLOWING_MS = process.env["SOAK"] === undefined ? 800 : 10_000;

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

const base64 = (text: string) => Buffer.from(text).toString("base64");

async function change<T extends KubeObject>(
  kube: MemoryKube,
  type: ResourceType,
  name: string,
  data: Readonly<Record<string, string>>,
) {
  const object = await kube.get<T>(type, "linkerd", name);
  await kube.update(type, "linkerd", { ...(object as T), data } as T);
}

const trust = (kube: MemoryKube, ...roots: readonly TestPair[]) =>
  change<ConfigMap>(kube, CONFIG_MAPS, "linkerd-identity-trust-roots", {
    "ca-bundle.crt": roots.map(({ certificatePem }) => certificatePem).join(""),
  });

/** A host that is enrolled, attached and renewing, as the agent assembles it. */
async function host(kube: MemoryKube, ca: { root: TestPair }, address: string, name: string) {
  const terms = testTerms({ name, serviceAccount: name });
  const machine = createHash("sha256").update(name).digest("hex");
  const join = decodeJoinString(await invite(kube, terms, ca.root.certificatePem, address));
  const enrolment = await enrol({ join, machine, hostname: name, version: "0.1.0", wallMs: Date.now });
  const { configuration, enrollers } = enrolment;
  const shared = {
    workload: configuration.workload,
    mesh: configuration,
    version: "0.1.0",
    scheduler: realScheduler,
    log: silentLog,
  };
  const identity = new EnrolledIdentity({
    ...shared,
    machine,
    identity: enrolment.identity,
    enrollers: () => enrollers,
    save: () => {},
  });
  identity.start();
  const client = new AttachClient({
    ...shared,
    enrollers,
    identity,
    machine,
    hostname: name,
    addresses: () => ["192.0.2.10"],
    handlers: {
      renew: (withinMs) => identity.renewWithin(withinMs),
      trustAnchors: (roots) => {
        const anchors = acceptAnchors({ roots });
        if (anchors !== undefined) identity.setTrustAnchors(anchors);
      },
    },
  });
  client.start();
  stops.push(
    () => identity.stop(),
    () => client.stop(),
  );
  await until(() => client.state.kind === "attached", "attached");
  return identity;
}

/** Both sides of one host's proxy, following its identity, in a process of their own: as many as hosts there are. */
async function proxy(
  identity: EnrolledIdentity,
  app: number,
  opaque: { readonly there: boolean; readonly here: boolean },
) {
  const child = fork(support("meshed-host.ts"));
  stops.push(() => child.kill("SIGKILL"));
  const tell = (news: HostNews) => void child.send(news);
  tell({ kind: "start", identity: identity.current() as WorkloadIdentity, app, opaque });
  const [ports] = (await once(child, "message")) as [HostPorts];
  identity.subscribe((next) => tell({ kind: "identity", identity: next }));
  return { ...ports, tell };
}

/** Asks through a proxy, until told to stop. Resolves when it is under way. */
async function load(port: number): Promise<() => Promise<LoadReport>> {
  const options: LoadOptions = { port, perSecond: PER_SECOND, freshEvery: FRESH_EVERY };
  const child = fork(support("steady-load.ts"), [JSON.stringify(options)]);
  stops.push(() => child.kill("SIGKILL"));
  await once(child, "message");
  return async () => {
    child.send("stop");
    const [report] = (await once(child, "message")) as [LoadReport];
    return report;
  };
}

const support = (file: string) => fileURLToPath(new URL(`../../support/${file}`, import.meta.url));

it("replaces the issuer and then the trust anchors under load, without a failed request", {
  timeout: 120_000,
}, async () => {
  const [before, after] = [await testMeshCa(), await testMeshCa()];
  const kube = new MemoryKube();
  await installMesh(kube, before);
  const enroller = await startEnroller({
    client: kube,
    listen: { host: "127.0.0.1", port: 0 },
    version: "0.1.0",
    captureNetworks: ["10.43.0.0/16"],
  });
  stops.push(() => enroller.stop(0));
  const address = `127.0.0.1:${enroller.address.port}`;
  const left = await host(kube, before, address, "left");
  const right = await host(kube, before, address, "right");

  const app = http.createServer((_request, response) => response.end("ok"));
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
  stops.push(() => app.close());
  app.keepAliveTimeout = 60_000;
  const { port } = app.address() as AddressInfo;
  // Opaque one way: every connection of a program is a connection, and so a handshake, between the hosts. The other way
  // requests share a few, which outlive the certificates they began with.
  const one = await proxy(left, port, { there: true, here: false });
  const two = await proxy(right, port, { there: false, here: true });
  for (const [mine, peer, identity] of [
    [one, two, right],
    [two, one, left],
  ] as const) {
    const { uri = "", serverName } = identity.current() as WorkloadIdentity;
    mine.tell({ kind: "peer", port: peer.direct, uri, serverName });
  }
  const loads = await Promise.all([load(one.outbound), load(two.outbound)]);
  const chain = (identity: EnrolledIdentity) => identity.current()?.certificatePem ?? "";
  const flowing = () => sleep(FLOWING_MS);
  await flowing();

  // Linkerd's procedure: trust both, sign with the new one, trust the new one alone.
  await trust(kube, before.root, after.root);
  await until(
    () => [left, right].every((each) => each.current()?.trustAnchorsPem.length === 2),
    "both roots everywhere",
  );
  await flowing();
  const old = [chain(left), chain(right)];
  await change<Secret>(kube, SECRETS, "linkerd-identity-issuer", {
    // The scheme of cert-manager this time.
    "tls.crt": base64(after.issuer.certificatePem),
    "tls.key": base64(after.issuer.keyPem),
  });
  await until(() => chain(left) !== old[0] && chain(right) !== old[1], "renewed under the new issuer");
  await flowing();
  await trust(kube, after.root);
  await until(() => [left, right].every((each) => each.current()?.trustAnchorsPem.length === 1), "the old root gone");
  await flowing();

  for (const report of await Promise.all(loads.map((stop) => stop()))) {
    const { asked, answered, failed, perSecond, p99Ms, maxMs } = report;
    console.log(
      `rotation: ${answered} of ${asked} requests answered, ${failed.length} failed, at ${perSecond.toFixed(0)} of ${PER_SECOND}/s; ` +
        `p99 ${p99Ms.toFixed(1)} ms, slowest ${maxMs.toFixed(1)} ms`,
    );
    expect(failed).toEqual([]);
    expect(answered).toBe(asked);
    expect(perSecond).toBeGreaterThan(process.env["SOAK"] === undefined ? 25 : 0.98 * PER_SECOND);
  }
  expect(left.status().failures).toBe(0);
});
