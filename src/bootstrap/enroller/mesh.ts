import {
  type ControlPlaneService,
  destinationName,
  isIdentityPart,
  type Log,
  type MeshConfiguration,
  type MeshNames,
  type Scheduler,
  splitPem,
  workloadToken,
} from "../control/index.ts";
import { Issuer } from "./issuer.ts";
import type { KubeClient } from "./kubernetes.ts";
import { type MeshValues, readMeshValues } from "./mesh-values.ts";
import type { Registration } from "./plan.ts";
import { CONFIG_MAPS, type ConfigMap, ENDPOINT_SLICES, type EndpointSlice, SECRETS, type Secret } from "./resources.ts";

export interface MeshOptions {
  readonly client: KubeClient;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** Namespace of the control plane. */
  readonly namespace: string;
  /** Secret with the issuing CA: `linkerd-identity-issuer`, or an intermediate of our own. */
  readonly issuerSecret: string;
  /** CIDRs that hosts capture. */
  readonly captureNetworks: readonly string[];
  /** Stand in for what `linkerd-config` says. */
  readonly trustDomain?: string;
  readonly clusterDomain?: string;
}

const TRUST_ROOTS = "linkerd-identity-trust-roots";
const LINKERD_CONFIG = "linkerd-config";
const DESTINATION_PORT = 8086;
const POLICY_PORT = 8090;
/**
 * What the enroller knows of the mesh, kept up to date by watches: issuer, trust anchors, Linkerd's values, and where
 * the control plane's pods are. A new issuer or bundle that does not fit is refused and the old one stays, as in
 * Linkerd's own identity service.
 */
export class Mesh {
  readonly #options: MeshOptions;
  readonly #listeners = new Set<() => void>();
  readonly #stops: (() => void)[] = [];
  readonly #slices = new Map<string, EndpointSlice>();
  #names: MeshNames | undefined;
  #values: MeshValues | undefined;
  #secret: Secret | undefined;
  #roots: ConfigMap | undefined;
  #issuer: Issuer | undefined;
  #generation = 0;

  constructor(options: MeshOptions) {
    this.#options = options;
  }

  /**
   * Reads everything once, then keeps watching.
   * @throws Error, one line, if the mesh cannot be served: no issuer, no roots, or a pair that does not fit.
   */
  async start(): Promise<void> {
    const { client, namespace, issuerSecret } = this.#options;
    this.#secret = await client.get<Secret>(SECRETS, namespace, issuerSecret);
    if (this.#secret === undefined) throw new Error(`there is no Secret ${namespace}/${issuerSecret} to sign with`);
    this.#roots = await client.get<ConfigMap>(CONFIG_MAPS, namespace, TRUST_ROOTS);
    if (this.#roots === undefined) throw new Error(`there is no ConfigMap ${namespace}/${TRUST_ROOTS}`);
    this.#setValues(await client.get<ConfigMap>(CONFIG_MAPS, namespace, LINKERD_CONFIG));
    this.#issuer = await this.#load();
    const problem = (what: string) => (error: Error) =>
      this.#options.log.warn({ what, error: error.message }, "cannot watch; keeping what is known");
    this.#stops.push(
      client.watch<Secret>(
        SECRETS,
        namespace,
        (event) => {
          if (event.type === "SYNCED" || event.object.metadata.name !== issuerSecret) return;
          this.#secret = event.type === "DELETED" ? this.#secret : event.object;
          void this.#reload();
        },
        problem("secrets"),
      ),
      client.watch<ConfigMap>(
        CONFIG_MAPS,
        namespace,
        (event) => {
          if (event.type === "SYNCED" || event.type === "DELETED") return;
          const { name } = event.object.metadata;
          if (name === TRUST_ROOTS) {
            this.#roots = event.object;
            void this.#reload();
          } else if (name === LINKERD_CONFIG) {
            this.#setValues(event.object);
            this.#changed();
          }
        },
        problem("configmaps"),
      ),
      client.watch<EndpointSlice>(
        ENDPOINT_SLICES,
        namespace,
        (event) => {
          if (event.type === "SYNCED") return;
          const { name } = event.object.metadata;
          if (event.type === "DELETED") this.#slices.delete(name);
          else this.#slices.set(name, event.object);
          this.#changed();
        },
        problem("endpointslices"),
      ),
    );
  }

  stop(): void {
    for (const stop of this.#stops.splice(0)) stop();
    this.#listeners.clear();
  }

  /** Fixed at start: every name in the mesh hangs on them. */
  get names(): MeshNames {
    if (this.#names === undefined) throw new Error("the mesh has not been read");
    return this.#names;
  }

  get clusterDomain(): string {
    return this.#values?.clusterDomain ?? "cluster.local";
  }

  get issuer(): Issuer {
    if (this.#issuer === undefined) throw new Error("the mesh has not been read");
    return this.#issuer;
  }

  get trustAnchorsPem(): readonly string[] {
    return this.issuer.trustAnchorsPem;
  }

  /** Called after any change. @returns the way to stop. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What one host is told. */
  configurationFor(registration: Registration): MeshConfiguration {
    const { workload } = registration;
    const token = workloadToken(workload.namespace, workload.name);
    return {
      ...this.names,
      clusterDomain: this.clusterDomain,
      clusterNetworks: this.#values?.clusterNetworks ?? [],
      captureNetworks: this.#options.captureNetworks,
      destination: this.#service(DESTINATION_PORT, ["linkerd-dst-headless", "linkerd-dst"]),
      policy: this.#service(POLICY_PORT, ["linkerd-policy"]),
      workload,
      ports: registration.ports,
      probes: registration.probes,
      opaquePorts: registration.opaquePorts,
      defaultInboundPolicy: registration.defaultInboundPolicy ?? this.#values?.defaultInboundPolicy ?? "deny",
      policyToken: token,
      contextToken: token,
    };
  }

  /** Addresses of ready destination pods, for the pass-through. */
  destinationPods(): readonly string[] {
    return this.#addresses(["linkerd-dst-headless", "linkerd-dst", "linkerd-policy"]);
  }

  #service(port: number, services: readonly string[]): ControlPlaneService {
    const addresses = this.#addresses(services).map((ip) => (ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`));
    return { addresses, tlsName: destinationName(this.names) };
  }

  #addresses(services: readonly string[]): readonly string[] {
    const found = new Set<string>();
    for (const slice of this.#slices.values()) {
      const service = slice.metadata.labels?.["kubernetes.io/service-name"];
      if (service === undefined || !services.includes(service)) continue;
      for (const { addresses, conditions } of slice.endpoints ?? []) {
        if (conditions?.ready === false) continue;
        for (const address of addresses ?? []) found.add(address);
      }
    }
    // Sorted, so that an order of events never looks like a change.
    return [...found].sort();
  }

  #setValues(config: ConfigMap | undefined): void {
    const { namespace, log } = this.#options;
    this.#values = readMeshValues(config, this.#options);
    if (config !== undefined && !this.#values.read) log.warn({}, "linkerd-config cannot be read; using defaults");
    if (this.#names === undefined) {
      if (!isIdentityPart(this.#values.trustDomain))
        throw new Error(`"${this.#values.trustDomain}" is no trust domain`);
      this.#names = { controlPlaneNamespace: namespace, trustDomain: this.#values.trustDomain };
    } else if (this.#values.trustDomain !== this.#names.trustDomain) {
      log.error({ trustDomain: this.#values.trustDomain }, "the trust domain changed; restart the enroller to follow");
    }
  }

  #load(): Promise<Issuer> {
    const data = this.#secret?.data ?? {};
    // Linkerd's own scheme, then the one of cert-manager.
    const certificate = text(data["crt.pem"] ?? data["tls.crt"]);
    const key = text(data["key.pem"] ?? data["tls.key"]);
    const anchors = splitPem(this.#roots?.data?.["ca-bundle.crt"] ?? "");
    if (anchors.length === 0) throw new Error(`ConfigMap ${TRUST_ROOTS} holds no certificate`);
    return Issuer.load(certificate, key, anchors, this.#options.scheduler.wallMs());
  }

  /** Two reloads may overlap: only the last one counts. */
  async #reload(): Promise<void> {
    const generation = ++this.#generation;
    try {
      const issuer = await this.#load();
      if (generation !== this.#generation) return;
      this.#issuer = issuer;
      this.#changed();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.log.error({ error: reason }, "new issuer or trust roots refused; the old ones stay in use");
    }
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

function text(base64: string | undefined): string {
  return Buffer.from(base64 ?? "", "base64").toString();
}
