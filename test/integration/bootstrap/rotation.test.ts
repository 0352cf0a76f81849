import { createHash } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
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
import { defaultInboundPolicy, forwardPolicy } from "../../../src/proxy/policy/index.ts";
import { HopProxy } from "../../support/hops.ts";
import { MemoryKube } from "../../support/memory-kube.ts";
import { installMesh, invite, testTerms } from "../../support/mesh-kube.ts";
import { type TestPair, testMeshCa } from "../../support/test-ca.ts";
import { until } from "../../support/until.ts";

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

/** Both sides of one host's proxy, following its identity. */
async function proxy(
  identity: EnrolledIdentity,
  peer: () => { port: number; identity: WorkloadIdentity },
  app: number,
) {
  const current = () => identity.current() as WorkloadIdentity;
  const hop: HopProxy = new HopProxy(
    current(),
    (request) => {
      if (request.type !== "discovery.watch") return undefined;
      const { target } = request;
      if (target.kind === "inbound") {
        const value = defaultInboundPolicy("all-authenticated", {
          detectTimeoutMs: 500,
          clusterNetworks: [],
          opaque: true,
        });
        return { type: "discovery.inbound", key: `inbound ${target.port}`, value };
      }
      if (target.kind !== "outbound") return undefined;
      const { uri, serverName } = peer().identity;
      const policy = forwardPolicy("endpoint", {
        key: `127.0.0.1:${app}`,
        address: { ip: "127.0.0.1", port: app },
        identity: { kind: "uri", id: uri ?? "", serverName },
        expectsIdentity: true,
        hint: "opaque",
        inboundPort: peer().port,
        authorityOverride: undefined,
        weight: 10_000,
        zone: undefined,
        zoneLocality: "unknown",
        labels: {},
        http2: undefined,
      });
      const key = `outbound ${target.ip}:${target.port}`;
      // Opaque: every connection of a program is a connection, and so a handshake, between the hosts.
      return { type: "discovery.outbound", key, value: { policy: { ...policy, kind: "opaque" }, profile: undefined } };
    },
    {},
  );
  identity.subscribe((next) => hop.mesh.update(next));
  stops.push(() => hop.close());
  const direct = await hop.listenInbound(true);
  hop.discovery.inbound(app).retain();
  return { hop, direct };
}

/** Asks at a rate, half of it over new connections, until told to stop. */
function load(port: number, perSecond: number) {
  const kept = new http.Agent({ keepAlive: true, maxSockets: 8 });
  const result = { done: 0, failed: [] as string[] };
  let asked = 0;
  let open = 0;
  const began = performance.now();
  const one = () => {
    open++;
    const finish = (failure?: string) => {
      open--;
      result.done++;
      if (failure !== undefined) result.failed.push(failure);
    };
    const agent = asked++ % 2 === 0 ? kept : false;
    const request = http.get({ host: "127.0.0.1", port, agent, path: "/" }, (response) => {
      response.resume();
      response.once("end", () => finish(response.statusCode === 200 ? undefined : `status ${response.statusCode}`));
    });
    request.once("error", (error) => finish(error.message));
  };
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - began) * perSecond) / 1000);
    // A machine that cannot keep up shall be slow, not collapse.
    while (asked < due && open < 64) one();
  }, 5);
  return {
    result,
    async stop() {
      clearInterval(timer);
      await until(() => open === 0, "every answer");
      kept.destroy();
      return { ...result, perSecond: (result.done * 1000) / (performance.now() - began) };
    },
  };
}

it("replaces the issuer and then the trust anchors under load, without a failed request", {
  timeout: 90_000,
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
  const peers: Record<"left" | "right", { port: number; identity: WorkloadIdentity }> = {
    left: { port: 0, identity: left.current() as WorkloadIdentity },
    right: { port: 0, identity: right.current() as WorkloadIdentity },
  };
  const one = await proxy(left, () => peers.right, port);
  const two = await proxy(right, () => peers.left, port);
  peers.left.port = one.direct;
  peers.right.port = two.direct;
  const loads = [load(await one.hop.listenOutbound(), 250), load(await two.hop.listenOutbound(), 250)];
  const chain = (identity: EnrolledIdentity) => identity.current()?.certificatePem ?? "";
  const flowing = () => sleep(800);
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

  const [there, back] = await Promise.all(loads.map((each) => each.stop()));
  expect(there?.failed).toEqual([]);
  expect(back?.failed).toEqual([]);
  console.log(
    `rotation: ${there?.done} and ${back?.done} requests at ${Math.round(there?.perSecond ?? 0)} and ${Math.round(back?.perSecond ?? 0)}/s, none failed`,
  );
  expect((there?.done ?? 0) + (back?.done ?? 0)).toBeGreaterThan(50);
  expect(left.status().failures).toBe(0);
});
