import { afterAll, expect, it } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import { until } from "../../support/until.ts";
import {
  account,
  allow,
  applyPolicy,
  deletePolicies,
  fooNotBar,
  grpcRoute,
  MESH,
  meshTls,
  NETWORK,
  network,
  server,
} from "./policy-yaml.ts";
import type { MeshSite } from "./site.ts";

/** Who calls the first VM. */
export interface Caller {
  /** The host on which it runs. */
  readonly host: string;
  readonly account: string;
  /** The third byte of its network's addresses. */
  readonly subnet: number;
  /** The second name in its certificate, if there is one. */
  readonly spiffeId?: string;
}

/** How soon a policy counts is a second where nothing else runs; so long a busy machine may take. */
const WITHIN_MS = 10_000;
const { namespace, group } = SAMPLE;
const HOST = `${group}.${namespace}.svc.cluster.local`;

/** "May call /foo but not /bar", with YAML as operators write it, applied by kubectl to a mesh that runs. */
export function policy(site: () => MeshSite, caller: Caller): void {
  const status = async (path: string): Promise<number> => {
    const { stdout } = await site().lab.exec(caller.host, "curl", [
      ...["-sS", "-o", "/dev/null", "-m", "5", "-w", "%{http_code}", `http://${HOST}/${path}`],
    ]);
    return Number(stdout);
  };
  const ways = async () => [await status("foo"), await status("bar"), await status("elsewhere")];
  /** Asks until the answers are these; says how long that took. */
  const become = async (expected: readonly number[], since: number): Promise<void> => {
    let seen: number[] = [];
    const same = async () => {
      seen = await ways();
      return String(seen) === String(expected);
    };
    await until(same, `${expected}`, WITHIN_MS).catch(() => expect(seen).toEqual(expected));
    console.log(`a policy counts for ${caller.host} ${Math.round(performance.now() - since)} ms after kubectl`);
  };

  afterAll(async () => {
    await deletePolicies(site());
    // A policy that is gone must not meet the next group of tests.
    await until(async () => String(await ways()) === "200,200,200", "no policy");
  });

  it("is open before there is a policy", async () => {
    // A host that has just joined takes a moment to be known.
    await until(async () => String(await ways()) === "200,200,200", "open to all");
  });

  const identity = `${caller.account}.${namespace}.serviceaccount.identity.linkerd.cluster.local`;
  // What is allowed and what is not take turns: an answer can not be the one that held before.
  const byUri: [string, string, string, number][] =
    caller.spiffeId === undefined
      ? []
      : [["its SPIFFE ID", MESH, meshTls(`{identities: ['${caller.spiffeId}']}`), 200]];
  it.each([
    ["its ServiceAccount", account(caller.account), undefined, 200],
    ["another ServiceAccount", account("somebody"), undefined, 403],
    ["its namespace", MESH, meshTls(`{identityRefs: [{kind: Namespace, name: ${namespace}}]}`), 200],
    ["another namespace", MESH, meshTls("{identityRefs: [{kind: Namespace, name: elsewhere}]}"), 403],
    ["its identity", MESH, meshTls(`{identities: ['${identity}']}`), 200],
    ["somebody's SPIFFE ID", MESH, meshTls("{identities: ['spiffe://cluster.local/ns/shop/sa/somebody']}"), 403],
    ...byUri,
    ["no identity that there is", MESH, meshTls("{identities: ['nobody.nowhere']}"), 403],
    ["everybody with an identity", MESH, meshTls("{identities: ['*']}"), 200],
    ["another network", NETWORK, "203.0.113.0/24", 403],
    ["its network", NETWORK, "own", 200],
  ])("/foo is for %s, /bar for nobody", async (_name, by, authentication, foo) => {
    const own = `${site().lab.network.prefix}.${caller.subnet}.0/24`;
    const more =
      by === NETWORK && authentication !== undefined
        ? network(authentication === "own" ? own : authentication)
        : authentication;
    const since = await applyPolicy(site(), ...fooNotBar(by), ...(more === undefined ? [] : [more]));
    await become([foo, 403, 404], since);
  });

  it("one gRPC method is open, another is not", async () => {
    await applyPolicy(
      site(),
      server("vm-grpc", SAMPLE.grpcPort, "gRPC"),
      grpcRoute("Say"),
      grpcRoute("Chat"),
      allow("GRPCRoute", "say", account(caller.account)),
    );
    let seen: unknown;
    const expected = {
      said: { text: "hello", code: 0 },
      // PERMISSION_DENIED; a method without a route is UNIMPLEMENTED's cousin, NOT_FOUND.
      chatted: { echoed: [], code: 7 },
      failed: { code: 5 },
    };
    const failed = async () => {
      seen = await site().ask(caller.host, "grpc-calls.ts", [`${HOST}:${SAMPLE.grpcPort}`, "hello"]);
      return (seen as { failed: { code: number } }).failed.code === expected.failed.code;
    };
    await until(failed, "a method without a route is not found", WITHIN_MS).catch(() => {});
    expect(seen).toMatchObject(expected);
  });

  it("a policy that changes finds the connections that are open", async () => {
    const { lab } = site();
    const callers = account(caller.account);
    await applyPolicy(
      site(),
      ...fooNotBar(callers),
      server("vm-tcp", SAMPLE.tcpPort, "opaque"),
      allow("Server", "vm-tcp", callers),
    );
    await until(async () => (await status("foo")) === 200, "/foo is open");
    const web = await site().start(lab.host(caller.host), "keep-alive.ts", [HOST, "80"]);
    const tcp = await site().hold(caller.host, HOST, SAMPLE.tcpPort);
    try {
      expect(await tcp.hear()).toBe(`220 ${SAMPLE.vm} ready`);
      const [first = "", port = ""] = (await web.ask("/foo")).split(" ");
      expect(first).toBe("200");
      expect(await web.ask("/foo")).toBe(`200 ${port}`);

      const nobody = account("nobody");
      const since = await applyPolicy(site(), ...fooNotBar(nobody), allow("Server", "vm-tcp", nobody));
      const cut = tcp.hear().then((heard) => ({ heard, afterMs: Math.round(performance.now() - since) }));
      // On the same connection: neither the program's nor the one between the proxies was replaced.
      await until(async () => (await web.ask("/foo")) === `403 ${port}`, "denied on the open connection", WITHIN_MS);
      const deniedMs = Math.round(performance.now() - since);
      const { heard, afterMs } = await cut;
      expect(heard).toMatch(/^(?:end|ECONNRESET)$/);
      expect(afterMs).toBeLessThan(WITHIN_MS);
      console.log(`${caller.host}: denied after ${deniedMs} ms, an opaque connection cut after ${afterMs} ms`);

      await applyPolicy(site(), ...fooNotBar(callers), allow("Server", "vm-tcp", callers));
      await until(async () => (await web.ask("/foo")) === `200 ${port}`, "allowed on the open connection", WITHIN_MS);
    } finally {
      web.child.kill();
      tcp.child.kill();
    }
  });
}
