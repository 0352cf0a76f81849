import type { Command } from "commander";
import type { InstalledObject } from "../../bootstrap/enroller/uninstall.ts";
import { CommandError, EXIT } from "../exit.ts";
import { VERSION } from "../version.ts";
import { type ClusterOptions, clusterOptions, kubernetes, parsed } from "./cluster-options.ts";

interface InstallOptions {
  readonly linkerdNamespace: string;
  readonly image: string;
  readonly capture?: readonly string[];
  readonly replicas: string;
  readonly serviceType: string;
  readonly issuerSecret: string;
  readonly lifetime: string;
  readonly metricsPort: boolean;
}

export function register(program: Command): void {
  const cluster = program.command("cluster").description("prepare a cluster for hosts, and revoke them");
  cluster
    .command("install")
    .description("print the manifests of the enroller, for `kubectl apply -f -`")
    .option("--linkerd-namespace <namespace>", "namespace of Linkerd's control plane", "linkerd")
    .option("--image <image>", "container image of mesh-agent", `mesh-agent:${VERSION}`)
    .option("--capture <cidr...>", "networks that hosts send through the mesh (default: the cluster's ServiceCIDRs)")
    .option("--replicas <count>", "enrollers to run", "2")
    .option("--service-type <type>", "LoadBalancer, NodePort or ClusterIP", "LoadBalancer")
    .option("--issuer-secret <name>", "Secret with the issuing CA", "linkerd-identity-issuer")
    .option("--lifetime <duration>", "of the hosts' certificates, 1h to 30d", "24h")
    .option("--no-metrics-port", "leave port 4191 out of the ExternalWorkloads")
    .action(async (options: InstallOptions) => {
      const { installManifests, parseDuration } = await import("../../bootstrap/enroller/index.ts");
      const { parseCidr } = await import("../../proxy/core/address.ts");
      for (const network of options.capture ?? [])
        parsed(network, parseCidr, "--capture", "a network such as 10.43.0.0/16");
      parsed(options.lifetime, parseDuration, "--lifetime", "such as 24h");
      const types = ["LoadBalancer", "NodePort", "ClusterIP"] as const;
      process.stdout.write(
        installManifests({
          namespace: options.linkerdNamespace,
          image: options.image,
          capture: options.capture ?? [],
          replicas: parsed(
            options.replicas,
            (text) => (/^[1-9]\d?$/.test(text) ? Number(text) : undefined),
            "--replicas",
            "1 to 99",
          ),
          serviceType: parsed(
            options.serviceType,
            (text) => types.find((type) => type === text),
            "--service-type",
            types.join(", "),
          ),
          issuerSecret: options.issuerSecret,
          lifetime: options.lifetime,
          metricsPort: options.metricsPort,
        }),
      );
    });
  const remove = cluster
    .command("uninstall")
    .description("delete what `cluster install` wrote, with invitations and leases; hosts have to leave first");
  clusterOptions(remove).action(async (options: ClusterOptions) => {
    const { installManifests, uninstall } = await import("../../bootstrap/enroller/index.ts");
    const { parseAllDocuments } = await import("yaml");
    const namespace = options.linkerdNamespace;
    const text = installManifests({
      namespace,
      image: "",
      capture: [],
      replicas: 1,
      serviceType: "ClusterIP",
      issuerSecret: "",
      lifetime: "",
      metricsPort: true,
    });
    const documents = parseAllDocuments(text).map((document) => document.toJS() as InstalledObject);
    const left = await kubernetes(options, (client) => uninstall(client, namespace, documents));
    process.stdout.write("The enroller, its rights, invitations and leases are gone.\n");
    if (left.length === 0) return;
    process.stdout.write(
      `${left.length} hosts are still registered and nobody watches over them: ${left.join(", ")}\n`,
    );
  });
  const revoke = cluster
    .command("revoke <host>")
    .description("take a host's identity away: NAMESPACE/NAME of its ExternalWorkload")
    .option("--reason <text>", "for the host and the log", "revoked by an administrator");
  clusterOptions(revoke).action(async (host: string, options: ClusterOptions & { readonly reason: string }) => {
    const match = /^([^/]+)\/([^/]+)$/.exec(host);
    if (match === null) throw new CommandError(EXIT.usage, `${host}: expected NAMESPACE/NAME`);
    const [, namespace = "", name = ""] = match;
    const { CONFIG_MAPS, readMeshValues, revokeHost } = await import("../../bootstrap/enroller/index.ts");
    const ends = await kubernetes(options, async (client) => {
      const values = readMeshValues(await client.get(CONFIG_MAPS, options.linkerdNamespace, "linkerd-config"), {});
      const mesh = { controlPlaneNamespace: options.linkerdNamespace, trustDomain: values.trustDomain };
      return await revokeHost(client, mesh, { namespace, name }, options.reason);
    });
    process.stdout.write(`${host} is revoked: it is taken out of service and cannot renew.\n`);
    process.stdout.write(
      ends === undefined
        ? "When its last certificate ends is not known.\n"
        : `Its last certificate ends at ${ends}; until then a copy of its key could still be used.\n`,
    );
  });
}
