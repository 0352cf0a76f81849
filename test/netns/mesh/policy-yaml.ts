import { writeFileSync } from "node:fs";
import { SAMPLE } from "../../../src/lab/sample.ts";
import type { MeshSite } from "./site.ts";

/*
 * Policies for the first VM, as operators write them.
 */

const { namespace, group } = SAMPLE;
const POLICY = "policy.linkerd.io";
const GATEWAY = "gateway.networking.k8s.io";

const meta = (name: string) => `metadata: {name: ${name}, namespace: ${namespace}}`;

export const server = (name: string, port: number, protocol: string): string => `
apiVersion: ${POLICY}/v1beta3
kind: Server
${meta(name)}
spec: {externalWorkloadSelector: {matchLabels: {app: ${group}}}, port: ${port}, proxyProtocol: ${protocol}}`;

export const httpRoute = (path: string): string => `
apiVersion: ${POLICY}/v1beta3
kind: HTTPRoute
${meta(path)}
spec:
  parentRefs: [{group: ${POLICY}, kind: Server, name: vm-http}]
  rules: [{matches: [{path: {type: PathPrefix, value: /${path}}}]}]`;

export const grpcRoute = (method: string): string => `
apiVersion: ${GATEWAY}/v1
kind: GRPCRoute
${meta(method.toLowerCase())}
spec:
  parentRefs: [{group: ${POLICY}, kind: Server, name: vm-grpc}]
  rules: [{matches: [{method: {service: lab.Echo, method: ${method}}}]}]`;

export const meshTls = (who: string): string => `
apiVersion: ${POLICY}/v1alpha1
kind: MeshTLSAuthentication
${meta("callers")}
spec: ${who}`;

export const network = (cidr: string): string => `
apiVersion: ${POLICY}/v1alpha1
kind: NetworkAuthentication
${meta("callers")}
spec: {networks: [{cidr: ${cidr}}]}`;

/** Lets `by` use a route or a Server; another one of the same name takes its place. */
export const allow = (kind: "HTTPRoute" | "GRPCRoute" | "Server", target: string, by: string): string => `
apiVersion: ${POLICY}/v1alpha1
kind: AuthorizationPolicy
${meta(`allow-${target}`)}
spec:
  targetRef: {group: ${kind === "GRPCRoute" ? GATEWAY : POLICY}, kind: ${kind}, name: ${target}}
  requiredAuthenticationRefs: [${by}]`;

export const account = (name: string): string => `{kind: ServiceAccount, name: ${name}}`;
export const MESH = `{group: ${POLICY}, kind: MeshTLSAuthentication, name: callers}`;
export const NETWORK = `{group: ${POLICY}, kind: NetworkAuthentication, name: callers}`;

/** `/foo` for whom `by` says, `/bar` for nobody, and no other path. */
export const fooNotBar = (by: string): string[] => [
  server("vm-http", SAMPLE.port, "HTTP/1"),
  httpRoute("foo"),
  httpRoute("bar"),
  allow("HTTPRoute", "foo", by),
];

/** `kubectl apply`. Returns when it had returned, by the monotonic clock. */
export async function applyPolicy(site: MeshSite, ...documents: readonly string[]): Promise<number> {
  const file = `${site.lab.directory}/policy.yaml`;
  writeFileSync(file, documents.join("\n---"));
  await site.kubectl("apply", "-f", file);
  return performance.now();
}

/** `kubectl delete` of all of them. Returns when it had returned. */
export async function deletePolicies(site: MeshSite): Promise<number> {
  const kinds = ["server", "authorizationpolicy", "meshtlsauthentication", "networkauthentication", "httproute"];
  for (const kind of [...kinds.map((name) => `${name}.${POLICY}`), `grpcroute.${GATEWAY}`])
    await site.kubectl("delete", kind, "--all", "-n", namespace);
  return performance.now();
}
