import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, it } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import type { MeshSite } from "./site.ts";

/** How soon a policy has to count, after kubectl has returned. */
const WITHIN_MS = 1_000;
const { namespace, group, pod } = SAMPLE;
const POLICY = "policy.linkerd.io";

const meta = (name: string) => `metadata: {name: ${name}, namespace: ${namespace}}`;

const server = (name: string, port: number, protocol: string) => `
apiVersion: ${POLICY}/v1beta3
kind: Server
${meta(name)}
spec: {externalWorkloadSelector: {matchLabels: {app: ${group}}}, port: ${port}, proxyProtocol: ${protocol}}`;

const httpRoute = (path: string) => `
apiVersion: ${POLICY}/v1beta3
kind: HTTPRoute
${meta(path)}
spec:
  parentRefs: [{group: ${POLICY}, kind: Server, name: vm-http}]
  rules: [{matches: [{path: {type: PathPrefix, value: /${path}}}]}]`;

const grpcRoute = (method: string) => `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
${meta(method.toLowerCase())}
spec:
  parentRefs: [{group: ${POLICY}, kind: Server, name: vm-grpc}]
  rules: [{matches: [{method: {service: lab.Echo, method: ${method}}}]}]`;

const meshTls = (who: string) => `
apiVersion: ${POLICY}/v1alpha1
kind: MeshTLSAuthentication
${meta("callers")}
spec: ${who}`;

const network = (cidr: string) => `
apiVersion: ${POLICY}/v1alpha1
kind: NetworkAuthentication
${meta("callers")}
spec: {networks: [{cidr: ${cidr}}]}`;

const allow = (kind: string, route: string, by: string) => `
apiVersion: ${POLICY}/v1alpha1
kind: AuthorizationPolicy
${meta(`allow-${route}`)}
spec:
  targetRef: {group: ${kind === "GRPCRoute" ? "gateway.networking.k8s.io" : POLICY}, kind: ${kind}, name: ${route}}
  requiredAuthenticationRefs: [${by}]`;

const MESH = `{group: ${POLICY}, kind: MeshTLSAuthentication, name: callers}`;
const NETWORK = `{group: ${POLICY}, kind: NetworkAuthentication, name: callers}`;

/** "May call /foo but not /bar", with YAML as operators write it, applied by kubectl to a mesh that runs. */
export function policy(site: () => MeshSite): void {
  const apply = async (...documents: readonly string[]) => {
    const file = `${site().lab.directory}/policy.yaml`;
    writeFileSync(file, documents.join("\n---"));
    await site().kubectl("apply", "-f", file);
  };
  const host = `${group}.${namespace}.svc.cluster.local`;
  const status = async (path: string): Promise<number> => {
    const { stdout } = await site().lab.exec(pod, "curl", [
      ...["-sS", "-o", "/dev/null", "-m", "5", "-w", "%{http_code}", `http://${host}/${path}`],
    ]);
    return Number(stdout);
  };
  const ways = async () => [await status("foo"), await status("bar"), await status("elsewhere")];

  afterAll(async () => {
    const kinds = ["server", "authorizationpolicy", "meshtlsauthentication", "networkauthentication"];
    for (const kind of [...kinds.map((name) => `${name}.${POLICY}`), `httproute.${POLICY}`, "grpcroute"])
      await site().kubectl("delete", kind, "--all", "-n", namespace);
    await site().kubectl("delete", "service", "scraped", "-n", namespace);
    await sleep(WITHIN_MS);
  });

  it("is open before there is a policy", async () => {
    expect(await ways()).toEqual([200, 200, 200]);
  });

  it.each([
    ["a ServiceAccount", `{kind: ServiceAccount, name: ${pod}}`, undefined, 200],
    ["another ServiceAccount", "{kind: ServiceAccount, name: somebody}", undefined, 403],
    ["a namespace", MESH, meshTls(`{identityRefs: [{kind: Namespace, name: ${namespace}}]}`), 200],
    ["another namespace", MESH, meshTls("{identityRefs: [{kind: Namespace, name: elsewhere}]}"), 403],
    ["a SPIFFE id that is not the caller's", MESH, meshTls("{identities: ['spiffe://cluster.local/a']}"), 403],
    ["everybody with an identity", MESH, meshTls("{identities: ['*']}"), 200],
    ["the pods' network", NETWORK, "network", 200],
    ["another network", NETWORK, network("203.0.113.0/24"), 403],
  ])("/foo is for %s, /bar for nobody", async (_name, by, authentication, foo) => {
    const more = authentication === "network" ? network(`${site().lab.network.prefix}.0.0/16`) : authentication;
    await apply(
      server("vm-http", SAMPLE.port, "HTTP/1"),
      httpRoute("foo"),
      httpRoute("bar"),
      allow("HTTPRoute", "foo", by),
      ...(more === undefined ? [] : [more]),
    );
    await sleep(WITHIN_MS);
    expect(await ways()).toEqual([foo, 403, 404]);
  });

  it("scrapers reach metrics and health under port 4191, and nothing else of the admin server", async () => {
    await apply(`
apiVersion: v1
kind: Service
${meta("scraped")}
spec: {selector: {app: ${group}}, ports: [{name: linkerd-admin, port: 4191}]}`);
    const url = `http://scraped.${namespace}.svc.cluster.local:4191`;
    const answers = async (path: string) => {
      const args = ["-sS", "-m", "5", "--retry", "3", "--retry-all-errors", "-w", "\n%{http_code}", `${url}${path}`];
      return (await site().lab.exec(pod, "curl", args)).stdout;
    };
    expect(await answers("/metrics")).toContain("process_start_time_seconds");
    expect(await answers("/ready")).toBe("ready\n\n200");
    expect(await answers("/status.json")).toBe("\n404");
  });

  it("one gRPC method is open, another is not", async () => {
    await apply(
      server("vm-grpc", SAMPLE.grpcPort, "gRPC"),
      grpcRoute("Say"),
      grpcRoute("Chat"),
      allow("GRPCRoute", "say", `{kind: ServiceAccount, name: ${pod}}`),
    );
    await sleep(WITHIN_MS);
    expect(await site().ask(pod, "grpc-calls.ts", [`${host}:${SAMPLE.grpcPort}`, "hello"])).toMatchObject({
      said: { text: "hello", code: 0 },
      // PERMISSION_DENIED; a method without a route is UNIMPLEMENTED's cousin, NOT_FOUND.
      chatted: { echoed: [], code: 7 },
      failed: { code: 5 },
    });
  });
}
