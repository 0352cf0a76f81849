import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { enrollerName, type MeshNames, spkiFingerprint, splitPem, validity } from "../control/index.ts";
import { admissionPolicies } from "./admission-policy.ts";
import { GROUPS } from "./group.ts";
import { ENROLLER_SERVICE, publishedAddresses, sourceProblem } from "./invite.ts";
import { Issuer } from "./issuer.ts";
import { type KubeClient, KubeError, type KubeObject, type ResourceType } from "./kubernetes.ts";
import { GROUPS_LEASE } from "./leader.ts";
import { readMeshValues } from "./mesh-values.ts";
import { MANAGED } from "./plan.ts";
import {
  CONFIG_MAPS,
  type ConfigMap,
  EXTERNAL_WORKLOADS,
  type ExternalWorkload,
  isReady,
  LEASES,
  type Lease,
  SECRETS,
  SERVICES,
  type Secret,
  type Service,
} from "./resources.ts";
import { ENROLLER_ACCOUNT, enrollerRights } from "./rights.ts";
import { serviceNetworks } from "./service-networks.ts";

/** What one step found. */
export interface CheckResult {
  /** Stable, for scripts. */
  readonly code: CheckCode;
  readonly state: "ok" | "warning" | "failed" | "skipped";
  /** What was seen. */
  readonly evidence: string;
  /** What to do about it; present unless all is well. */
  readonly fix?: string;
}

export interface CheckOptions {
  /** Namespace of the control plane. */
  readonly namespace: string;
  /** Unix milliseconds. */
  readonly wallMs: number;
  /** Looks at an address from here and rejects unless the enroller answers, with one of the roots above its certificate. */
  readonly reach: (address: string, mesh: MeshNames, rootsPem: readonly string[]) => Promise<void>;
}

/** Every step, in order, and what it makes sure of. */
export const CHECKS = {
  "linkerd-crd": "Linkerd serves ExternalWorkload v1beta1",
  "group-crd": "ExternalWorkloadGroups are served",
  "linkerd-config": "trust domain and settings can be read",
  "trust-roots": "there are trust roots, and they last",
  issuer: "the issuer's Secret signs certificates under those roots",
  rights: "the enroller has every right it needs",
  admission: "nobody may take another account's identity, or delete a host in use",
  deployment: "enrollers run",
  leader: "one of them looks after groups, and its clock is right",
  capture: "hosts know what to send through the mesh",
  service: "hosts can be told where to call",
  source: "it is seen where hosts call from",
  reachable: "the enroller answers there",
  hosts: "registered hosts are Ready",
} as const satisfies Record<string, string>;

export type CheckCode = keyof typeof CHECKS;

type Found = Omit<CheckResult, "code">;

const INSTALL = "mesh-agent cluster install | kubectl apply -f -";
const DEFINITIONS: ResourceType = { group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions" };
const DEPLOYMENTS: ResourceType = { group: "apps", version: "v1", plural: "deployments" };
const REVIEWS: ResourceType = { group: "authorization.k8s.io", version: "v1", plural: "subjectaccessreviews" };
const REGISTRATION = { group: "admissionregistration.k8s.io", version: "v1" } as const;
const MONTH_MS = 30 * 86_400_000;
/** As far as hosts are allowed to be off. */
const MAX_SKEW_MS = 300_000;

interface Deployment extends KubeObject {
  readonly spec?: {
    readonly replicas?: number;
    readonly template?: { readonly spec?: { readonly containers?: readonly { readonly args?: readonly string[] }[] } };
  };
  readonly status?: { readonly availableReplicas?: number };
}

/**
 * Looks at an installation, step by step: a step that cannot be judged because an earlier one failed is skipped, and one
 * whose question the API refuses fails with its words.
 * @throws KubeError if the API server does not answer at all.
 */
export async function checkInstallation(client: KubeClient, options: CheckOptions): Promise<readonly CheckResult[]> {
  const installation = new Installation(client, options);
  const results: CheckResult[] = [];
  for (const code of Object.keys(CHECKS) as CheckCode[]) {
    try {
      results.push({ code, ...(await installation.step(code)) });
    } catch (error) {
      if (error instanceof KubeError && error.code === 0) throw error;
      const evidence = error instanceof Error ? error.message : String(error);
      const fix = error instanceof KubeError ? "run the check with an account that may look" : INSTALL;
      results.push({ code, state: "failed", evidence, fix });
    }
  }
  return results;
}

class Installation {
  readonly #client: KubeClient;
  readonly #options: CheckOptions;
  #mesh: MeshNames | undefined;
  #roots: readonly string[] = [];
  #deployment: Deployment | undefined;
  #addresses: readonly string[] = [];

  constructor(client: KubeClient, options: CheckOptions) {
    this.#client = client;
    this.#options = options;
  }

  step(code: CheckCode): Promise<Found> {
    switch (code) {
      case "linkerd-crd":
        return this.#serves(EXTERNAL_WORKLOADS, "install Linkerd 2.15 or later");
      case "group-crd":
        return this.#serves(GROUPS, INSTALL);
      case "linkerd-config":
        return this.#config();
      case "trust-roots":
        return this.#trustRoots();
      case "issuer":
        return this.#issuer();
      case "rights":
        return this.#rights();
      case "admission":
        return this.#admission();
      case "deployment":
        return this.#running();
      case "leader":
        return this.#leader();
      case "capture":
        return this.#capture();
      case "service":
        return this.#service();
      case "source":
        return this.#source();
      case "reachable":
        return this.#reachable();
      case "hosts":
        return this.#hosts();
      default:
        return code satisfies never;
    }
  }

  async #serves(type: ResourceType, fix: string): Promise<Found> {
    const name = `${type.plural}.${type.group}`;
    const definition = (await this.#client.get(DEFINITIONS, undefined, name)) as
      | (KubeObject & { spec?: { versions?: readonly { name: string; served?: boolean }[] } })
      | undefined;
    const served = (definition?.spec?.versions ?? []).filter((version) => version.served === true);
    const versions = served.map((version) => version.name).join(", ");
    if (served.some((version) => version.name === type.version)) return ok(`${name} serves ${versions}`);
    return failed(definition === undefined ? `there is no ${name}` : `${name} serves only ${versions}`, fix);
  }

  async #config(): Promise<Found> {
    const { namespace } = this.#options;
    const values = readMeshValues(await this.#client.get<ConfigMap>(CONFIG_MAPS, namespace, "linkerd-config"), {});
    this.#mesh = { controlPlaneNamespace: namespace, trustDomain: values.trustDomain };
    const { trustDomain, clusterDomain } = values;
    if (values.read) return ok(`trust domain ${trustDomain}, cluster domain ${clusterDomain}`);
    return warning(
      `ConfigMap ${namespace}/linkerd-config cannot be read: the enroller assumes trust domain ${trustDomain}`,
      "name Linkerd's namespace with --linkerd-namespace, or the enroller's --trust-domain",
    );
  }

  async #trustRoots(): Promise<Found> {
    const { namespace, wallMs } = this.#options;
    const name = "linkerd-identity-trust-roots";
    const config = await this.#client.get<ConfigMap>(CONFIG_MAPS, namespace, name);
    const pems = splitPem(config?.data?.["ca-bundle.crt"] ?? "");
    const roots = pems.map((pem) => new X509Certificate(pem));
    const alive = roots.filter((root) => validity(root).notAfterMs > wallMs);
    if (alive.length === 0)
      return failed(
        `ConfigMap ${namespace}/${name} holds no certificate that is valid`,
        "install Linkerd, or renew its trust anchor",
      );
    this.#roots = pems;
    const last = Math.max(...alive.map((root) => validity(root).notAfterMs));
    const said = `${roots.length} certificates, ${alive.length} of them valid, the last until ${iso(last)}`;
    return last - wallMs < MONTH_MS ? warning(said, "rotate the trust anchor before it ends") : ok(said);
  }

  async #issuer(): Promise<Found> {
    const { namespace, wallMs } = this.#options;
    if (this.#roots.length === 0 || this.#mesh === undefined) return skipped("there are no trust roots to judge it by");
    const name = argument(await this.#enrollers(), "--issuer-secret") ?? "linkerd-identity-issuer";
    const secret = await this.#client.get<Secret>(SECRETS, namespace, name);
    const fix = "name a Secret with a CA certificate and key with cluster install --issuer-secret";
    if (secret === undefined) return failed(`there is no Secret ${namespace}/${name}`, fix);
    const text = (key: string, other: string) =>
      Buffer.from(secret.data?.[key] ?? secret.data?.[other] ?? "", "base64").toString();
    try {
      const pem = text("crt.pem", "tls.crt");
      const issuer = await Issuer.load(pem, text("key.pem", "tls.key"), this.#roots, wallMs);
      const { publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
      const spki = publicKey.export({ type: "spki", format: "der" });
      const key = { spki, fingerprint: spkiFingerprint(spki) };
      // As a host's would be, and thrown away: path length and name constraints show in no other way.
      const names = {
        dns: enrollerName(this.#mesh),
        uri: `spiffe://${this.#mesh.trustDomain}/ns/${namespace}/sa/check`,
      };
      await issuer.issue(key, names, 3_600_000, wallMs);
      const ends = validity(new X509Certificate(splitPem(pem)[0] ?? "")).notAfterMs;
      const said = `Secret ${namespace}/${name} signs until ${iso(ends)}`;
      return ends - wallMs < 2 * 86_400_000 ? warning(said, "renew the issuer") : ok(said);
    } catch (error) {
      return failed(`Secret ${namespace}/${name}: ${error instanceof Error ? error.message : String(error)}`, fix);
    }
  }

  async #rights(): Promise<Found> {
    const { namespace } = this.#options;
    const missing: string[] = [];
    const asked = enrollerRights(namespace);
    for (const { namespace: within, group, resource, verb } of asked) {
      const [plural = "", subresource] = resource.split("/");
      const review = {
        apiVersion: "authorization.k8s.io/v1",
        kind: "SubjectAccessReview",
        metadata: { name: "" },
        spec: {
          user: `system:serviceaccount:${namespace}:${ENROLLER_ACCOUNT}`,
          groups: ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"],
          resourceAttributes: {
            group,
            resource: plural,
            verb,
            ...(subresource !== undefined && { subresource }),
            ...(within !== undefined && { namespace: within }),
          },
        },
      };
      const answer = (await this.#client.create<KubeObject>(REVIEWS, undefined, review)) as KubeObject & {
        status?: { allowed?: boolean };
      };
      if (answer.status?.allowed !== true) missing.push(`${verb} ${resource}${group === "" ? "" : `.${group}`}`);
    }
    if (missing.length === 0)
      return ok(`${asked.length} rights of ServiceAccount ${namespace}/${ENROLLER_ACCOUNT} hold`);
    return failed(`missing: ${missing.join(", ")}`, INSTALL);
  }

  async #admission(): Promise<Found> {
    const wrong: string[] = [];
    for (const wanted of admissionPolicies(this.#options.namespace, {}) as readonly (KubeObject & { spec: object })[]) {
      const plural =
        wanted.kind === "ValidatingAdmissionPolicy"
          ? "validatingadmissionpolicies"
          : "validatingadmissionpolicybindings";
      const found = (await this.#client.get({ ...REGISTRATION, plural }, undefined, wanted.metadata.name)) as
        | (KubeObject & { spec?: object })
        | undefined;
      const kind = wanted.kind.replace("ValidatingAdmission", "");
      if (found === undefined) wrong.push(`${kind} ${wanted.metadata.name} is missing`);
      else if (!covers(found.spec, wanted.spec)) wrong.push(`${kind} ${wanted.metadata.name} says something else`);
    }
    return wrong.length === 0
      ? ok("all policies are bound and say what this version says")
      : failed(wrong.join("; "), INSTALL);
  }

  async #running(): Promise<Found> {
    const deployment = await this.#enrollers();
    if (deployment === undefined)
      return failed(`there is no Deployment ${this.#options.namespace}/mesh-agent-enroller`, INSTALL);
    const wanted = deployment.spec?.replicas ?? 1;
    const available = deployment.status?.availableReplicas ?? 0;
    const said = `${available} of ${wanted} available`;
    const fix = `kubectl -n ${this.#options.namespace} describe deployment mesh-agent-enroller`;
    if (available === 0) return failed(said, fix);
    return available < wanted ? warning(said, fix) : ok(said);
  }

  async #leader(): Promise<Found> {
    const { namespace, wallMs } = this.#options;
    const lease = await this.#client.get<Lease>(LEASES, namespace, GROUPS_LEASE);
    const renewed = Date.parse(lease?.spec?.renewTime ?? "");
    const fix = `kubectl -n ${namespace} logs deployment/mesh-agent-enroller`;
    if (lease === undefined || Number.isNaN(renewed)) return failed("no enroller holds the lease for groups", fix);
    const age = wallMs - renewed;
    const said = `${lease.spec?.holderIdentity} renewed it at ${iso(renewed)}`;
    if (age < -MAX_SKEW_MS)
      return failed(`${said}, which is yet to come here`, "set the clocks of the cluster's nodes, or of this machine");
    return age > 60_000 ? failed(`${said}, ${Math.round(age / 1000)} s ago`, `${fix}; or the clocks differ`) : ok(said);
  }

  async #capture(): Promise<Found> {
    const args = argumentsOf(await this.#enrollers());
    const at = args.indexOf("--capture");
    const given = at < 0 ? [] : args.slice(at + 1);
    const end = given.findIndex((text) => text.startsWith("--"));
    const named = end < 0 ? given : given.slice(0, end);
    const networks = named.length > 0 ? named : await serviceNetworks(this.#client);
    if (networks.length > 0)
      return ok(`${networks.join(", ")}${named.length > 0 ? "" : " (the cluster's ServiceCIDRs)"}`);
    return failed(
      "no --capture was given, and the API publishes no ServiceCIDR: hosts send nothing through the mesh",
      "cluster install --capture with the network of ClusterIPs",
    );
  }

  async #service(): Promise<Found> {
    const service = await this.#client.get<Service>(SERVICES, this.#options.namespace, ENROLLER_SERVICE);
    if (service === undefined) return failed(`there is no Service ${ENROLLER_SERVICE}`, INSTALL);
    this.#addresses = publishedAddresses(service);
    if (this.#addresses.length > 0) return ok(this.#addresses.join(", "));
    return warning(
      `the Service of type ${service.spec?.type ?? "ClusterIP"} has no address of its own`,
      "cluster install --external-address, or invite --enroller each time",
    );
  }

  async #source(): Promise<Found> {
    const service = await this.#client.get<Service>(SERVICES, this.#options.namespace, ENROLLER_SERVICE);
    if (service === undefined) return skipped("there is no Service");
    const problem = sourceProblem(service);
    if (problem === undefined) return ok("the Service keeps the source, or its balancer says it");
    return warning(problem, "cluster install --service-type LoadBalancer or NodePort, or --proxy-protocol");
  }

  async #reachable(): Promise<Found> {
    if (this.#addresses.length === 0 || this.#mesh === undefined || this.#roots.length === 0)
      return skipped("there is no address to try");
    const failures: string[] = [];
    for (const address of this.#addresses) {
      try {
        await this.#options.reach(address, this.#mesh, this.#roots);
        return ok(`${address} shows a certificate under the mesh's roots`);
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
      }
    }
    return failed(
      failures.join("; "),
      "check balancer and firewall; from another network than the hosts' this may be as it should",
    );
  }

  async #hosts(): Promise<Found> {
    const hosts = await this.#client.list<ExternalWorkload>(EXTERNAL_WORKLOADS, undefined, `${MANAGED}=true`);
    const away = hosts.filter((host) => !isReady(host)).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
    const said = `${hosts.length} registered, ${hosts.length - away.length} Ready`;
    if (away.length === 0) return ok(said);
    return warning(
      `${said}; not Ready: ${away.slice(0, 10).join(", ")}`,
      "mesh-agent status on those hosts, or kubectl describe externalworkload",
    );
  }

  async #enrollers(): Promise<Deployment | undefined> {
    this.#deployment ??= await this.#client.get<Deployment>(
      DEPLOYMENTS,
      this.#options.namespace,
      "mesh-agent-enroller",
    );
    return this.#deployment;
  }
}

function argumentsOf(deployment: Deployment | undefined): readonly string[] {
  return deployment?.spec?.template?.spec?.containers?.[0]?.args ?? [];
}

function argument(deployment: Deployment | undefined, option: string): string | undefined {
  return argumentsOf(deployment)
    .find((text) => text.startsWith(`${option}=`))
    ?.slice(option.length + 1);
}

/** Whether everything that is wanted stands in what was found, where the API server has filled in defaults. */
function covers(found: unknown, wanted: unknown): boolean {
  if (typeof wanted !== "object" || wanted === null) return isDeepStrictEqual(found, wanted);
  if (typeof found !== "object" || found === null) return false;
  if (Array.isArray(wanted) && (!Array.isArray(found) || found.length !== wanted.length)) return false;
  return Object.entries(wanted).every(
    ([key, value]) => value === undefined || covers((found as Record<string, unknown>)[key], value),
  );
}

function ok(evidence: string): Found {
  return { state: "ok", evidence };
}

function warning(evidence: string, fix: string): Found {
  return { state: "warning", evidence, fix };
}

function failed(evidence: string, fix: string): Found {
  return { state: "failed", evidence, fix };
}

function skipped(evidence: string): Found {
  return { state: "skipped", evidence };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
