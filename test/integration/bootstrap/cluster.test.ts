import { spawn } from "node:child_process";
import net from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decodeJoinString } from "../../../src/bootstrap/control/index.ts";
import {
  type CheckResult,
  createInvitation,
  EXTERNAL_WORKLOADS,
  type KubeObject,
  type RunningEnroller,
  SECRETS,
  startEnroller,
  type WatchEvent,
} from "../../../src/bootstrap/enroller/index.ts";
import { parseCidr } from "../../../src/proxy/core/address.ts";
import { type ClusterSite, clusterSite, joinAs, named } from "../../support/cluster-site.ts";
import { testTerms } from "../../support/mesh-kube.ts";
import { until } from "../../support/until.ts";

let site: ClusterSite;
let enroller: RunningEnroller;
const stops: (() => unknown)[] = [];

beforeAll(async () => {
  site = await clusterSite();
  enroller = await startEnroller({
    client: site.as("linkerd", "mesh-agent-enroller"),
    listen: { host: "127.0.0.1", port: 0 },
    version: "0.1.0",
    // Of two networks, we are in one: whoever comes from there comes through a balancer.
    balancers: [parseCidr("127.0.0.0/8"), parseCidr("192.0.2.0/24")].filter((cidr) => cidr !== undefined),
  });
});

beforeEach(() => {
  site.fault = undefined;
});

afterAll(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
  await enroller?.stop(0);
  await site?.close();
});

/** A balancer: puts a header before each connection that it passes on. */
async function balancer(header: string): Promise<string> {
  const server = net.createServer((client) => {
    const upstream = net.connect(enroller.address.port, "127.0.0.1");
    // In two pieces, as a network may deliver it.
    upstream.write(header.slice(0, 9), "latin1");
    setImmediate(() => {
      upstream.write(header.slice(9), "latin1");
      client.pipe(upstream).pipe(client);
    });
    for (const socket of [client, upstream]) socket.on("error", () => [client, upstream].map((each) => each.destroy()));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => server.close());
  return `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
}

describe("behind a balancer that hides who calls", () => {
  const invited = (from: readonly string[], address: string) =>
    createInvitation(site.admin, {
      namespace: "linkerd",
      terms: testTerms({ opaquePorts: [], from, uses: 9 }),
      described: false,
      enrollers: [address],
    });

  it("the header says where a host calls from, and networks are checked by it", async () => {
    const service = { ...named("v1", "Service", "mesh-agent-enroller", "linkerd") };
    const annotations = { "mesh-agent/proxy-protocol": "true" };
    const spec = { ports: [{ name: "enroll", port: 4145 }] };
    const metadata = { ...service.metadata, annotations };
    await site.admin.apply(
      { group: "", version: "v1", plural: "services" },
      "linkerd",
      { ...service, metadata, spec } as KubeObject,
      "t",
    );
    const v1 = await balancer("PROXY TCP4 198.51.100.7 203.0.113.1 40000 4145\r\n");
    const v2 = await balancer(
      Buffer.from("0d0a0d0a000d0a515549540a2111000cc6336408cb0071019c401031", "hex").toString("latin1"),
    );
    const { joinString } = await invited(["198.51.100.7/32"], v1);
    await expect(joinAs(joinString, "behind-1")).resolves.toBeDefined();
    const other = await invited(["198.51.100.7/32"], v2);
    await expect(joinAs(other.joinString, "behind-2")).rejects.toMatchObject({
      code: "invitation-network",
      message: expect.stringContaining("198.51.100.8"),
    });
  });

  it("a connection without a header gets no answer", async () => {
    const { joinString } = await invited([], `127.0.0.1:${enroller.address.port}`);
    expect(decodeJoinString(joinString).enrollers).toHaveLength(1);
    await expect(joinAs(joinString, "bare")).rejects.toMatchObject({ code: "unreachable" });
  });
});

describe("the API server at its worst", () => {
  it("too busy: the request comes again when the server said", async () => {
    let refused = 0;
    site.fault = (request, response) => {
      if (request.method !== "GET" || refused >= 2) return false;
      refused++;
      response.writeHead(refused === 1 ? 429 : 503, { "retry-after": "0" }).end("{}");
      return true;
    };
    await expect(site.admin.get(SECRETS, "linkerd", "linkerd-identity-issuer")).resolves.toBeDefined();
    expect(refused).toBe(2);
  });

  it("busy for longer than a request may take: an error that says so", async () => {
    site.fault = (_, response) => {
      response.writeHead(429, { "retry-after": "60" }).end("{}");
      return true;
    };
    await expect(site.admin.list(SECRETS, "linkerd")).rejects.toMatchObject({ code: 429 });
  });

  it("a watch outlives cuts, errors, forgotten versions and a slow list, and tells each change once", async () => {
    const events: string[] = [];
    const problems: number[] = [];
    const type = { group: "", version: "v1", plural: "configmaps" };
    const put = (name: string, text: string) =>
      site.store.put(type, { ...named("v1", "ConfigMap", name, "shop"), data: { text } } as KubeObject);
    let mode: "cut" | "gone" | "error" | "slow" | undefined;
    let watches = 0;
    site.fault = (request, response) => {
      const watching = request.url?.includes("watch=1") === true;
      if (!request.url?.includes("/shop/configmaps") || mode === undefined) return false;
      if (watching) watches++;
      switch (mode) {
        case "cut":
          mode = undefined;
          // In the middle of a line.
          response.writeHead(200).write('{"type":"ADDED","obj');
          setTimeout(() => response.destroy(), 20);
          return true;
        case "gone":
          mode = "slow";
          response
            .writeHead(200)
            .end('{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}\n');
          return true;
        case "error":
          mode = undefined;
          response.writeHead(500).end("not even JSON");
          return true;
        default:
          mode = undefined;
          response.writeHead(503, { "retry-after": "1" }).end("{}");
          return true;
      }
    };
    const stop = site.admin.watch(
      type,
      "shop",
      (event: WatchEvent<KubeObject>) =>
        events.push(event.type === "SYNCED" ? "SYNCED" : `${event.type} ${event.object.metadata.name}`),
      (error) => problems.push(error.code),
    );
    stops.push(stop);
    await until(() => events.includes("SYNCED"), "first list");
    for (const fault of ["cut", "gone", "error"] as const) {
      mode = fault;
      const before = watches;
      // Whoever watches is cut off, and the next request meets the fault.
      site.api.cut();
      await until(() => mode === undefined && watches >= before, `${fault} has happened`);
      put(fault, "1");
      await until(() => events.includes(`ADDED ${fault}`), `told after ${fault}`);
    }
    expect(events.filter((event) => event.startsWith("ADDED"))).toEqual(["ADDED cut", "ADDED gone", "ADDED error"]);
    expect(problems).toContain(500);
    site.store.delete(type, "shop", "cut");
    await until(() => events.includes("DELETED cut"), "deletion");
  }, 60_000);

  it("conflicts at every other write do not keep a host from joining", async () => {
    const { joinString } = await createInvitation(site.admin, {
      namespace: "linkerd",
      terms: testTerms({ name: "contested", opaquePorts: [], uses: 1 }),
      admission: { maxHosts: 5 },
      enrollers: [await balancer("PROXY TCP4 198.51.100.9 203.0.113.1 40000 4145\r\n")],
    });
    let writes = 0;
    site.fault = (request, response) => {
      if (request.method !== "PUT" && request.method !== "PATCH") return false;
      if (writes++ % 2 === 1) return false;
      response.writeHead(409).end('{"reason":"Conflict","message":"the object has been modified"}');
      return true;
    };
    await expect(joinAs(joinString, "contested")).resolves.toBeDefined();
    expect(writes).toBeGreaterThan(3);
  });
});

describe("cluster check", () => {
  async function check(...more: readonly string[]) {
    const child = spawn(
      process.execPath,
      ["src/agent/main.ts", "cluster", "check", "--kubeconfig", site.kubeconfig, ...more],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk;
    });
    const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
    return { status, out };
  }
  const states = async () => {
    const { status, out } = await check("-o", "json");
    const results = JSON.parse(out) as CheckResult[];
    return { status, results, of: (code: string) => results.find((result) => result.code === code) };
  };
  const services = { group: "", version: "v1", plural: "services" };
  const deployments = { group: "apps", version: "v1", plural: "deployments" };

  it("finds nothing wrong with an installation that works", async () => {
    const address = await balancer("PROXY TCP4 198.51.100.9 203.0.113.1 40000 4145\r\n");
    const service = (await site.admin.get(services, "linkerd", "mesh-agent-enroller")) as KubeObject;
    const annotations = { ...service.metadata.annotations, "mesh-agent/external-address": address };
    site.store.put(services, { ...service, metadata: { ...service.metadata, annotations } });
    const deployment = (await site.admin.get(deployments, "linkerd", "mesh-agent-enroller")) as KubeObject;
    site.store.put(deployments, { ...deployment, status: { availableReplicas: 2 } } as KubeObject);
    for (const type of [EXTERNAL_WORKLOADS])
      for (const { metadata } of site.store.list(type)) site.store.delete(type, metadata.namespace, metadata.name);
    const { status, results } = await states();
    expect(results.filter(({ state }) => state !== "ok")).toEqual([]);
    expect(status).toBe(0);
  });

  it("names what is wrong, with its evidence and what to do", async () => {
    const roles = { group: "rbac.authorization.k8s.io", version: "v1", plural: "clusterroles" };
    const role = (await site.admin.get(roles, undefined, "mesh-agent-enroller")) as KubeObject & { rules: object[] };
    site.store.put(roles, { ...role, rules: role.rules.slice(1) } as KubeObject);
    const bindings = {
      group: "admissionregistration.k8s.io",
      version: "v1",
      plural: "validatingadmissionpolicybindings",
    };
    site.store.delete(bindings, undefined, "mesh-agent-workload-identity");
    site.store.delete(SECRETS, "linkerd", "linkerd-identity-issuer");
    const { status, of } = await states();
    expect(status).toBe(1);
    expect(of("rights")).toMatchObject({
      state: "failed",
      evidence: expect.stringContaining("patch externalworkloads"),
    });
    expect(of("admission")).toMatchObject({
      state: "failed",
      evidence: "PolicyBinding mesh-agent-workload-identity is missing",
    });
    expect(of("issuer")).toMatchObject({ state: "failed", evidence: expect.stringContaining("there is no Secret") });
    expect(of("rights")?.fix).toContain("cluster install");
    const { out } = await check();
    expect(out).toMatch(/^FAILED {3}rights {10}the enroller has every right it needs: missing: /m);
    expect(out).toMatch(/^ok {7}group-crd/m);
  });
});
