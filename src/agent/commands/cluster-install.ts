import { type Command, Option } from "commander";
import type { InstallOptions } from "../../bootstrap/enroller/index.ts";
import { CommandError, EXIT } from "../exit.ts";
import { VERSION } from "../version.ts";
import { type ClusterOptions, clusterOptions, kubernetes, networksOf, parsed } from "./cluster-options.ts";
import { type Format, outputOption, print } from "./output.ts";

interface Options {
  readonly linkerdNamespace: string;
  readonly image: string;
  readonly capture?: readonly string[];
  readonly replicas: string;
  readonly serviceType: InstallOptions["serviceType"];
  readonly issuerSecret: string;
  readonly lifetime: string;
  readonly metricsPort: boolean;
  readonly externalAddress?: readonly string[];
  readonly proxyProtocol?: true | readonly string[];
  readonly output: "yaml" | "json";
}

/** Adds `install` and `uninstall`. */
export function registerInstall(cluster: Command): void {
  cluster
    .command("install")
    .description("print the manifests of the enroller, for `kubectl apply -f -`")
    .option("--linkerd-namespace <namespace>", "namespace of Linkerd's control plane", "linkerd")
    .option("--image <image>", "container image of mesh-agent", `mesh-agent:${VERSION}`)
    .option("--capture <cidr...>", "networks that hosts send through the mesh (default: the cluster's ServiceCIDRs)")
    .option("--replicas <count>", "enrollers to run", "2")
    .addOption(
      new Option("--service-type <type>", "LoadBalancer, NodePort or ClusterIP")
        .choices(["LoadBalancer", "NodePort", "ClusterIP"])
        .default("LoadBalancer"),
    )
    .option(
      "--external-address <host:port...>",
      "where hosts reach the enroller (default: its Service's load balancer)",
    )
    .option(
      "--proxy-protocol [cidr...]",
      "the balancer hides who calls and says so with PROXY protocol v1 or v2 (without networks: believe whoever connects)",
    )
    .option("--issuer-secret <name>", "Secret with the issuing CA", "linkerd-identity-issuer")
    .option("--lifetime <duration>", "of the hosts' certificates, 1h to 30d", "24h")
    .option("--no-metrics-port", "leave port 4191 out of the ExternalWorkloads")
    .addOption(new Option("-o, --output <format>", "yaml or json").choices(["yaml", "json"]).default("yaml"))
    .action(async (options: Options) => {
      const { installManifests } = await import("../../bootstrap/enroller/index.ts");
      process.stdout.write(installManifests(await checked(options), options.output));
    });
  const remove = cluster
    .command("uninstall")
    .description("delete what `cluster install` wrote, with groups, invitations and leases; hosts have to leave first")
    .option("--force", "even if hosts are still registered: nobody watches over them any more")
    .addOption(outputOption());
  clusterOptions(remove).action(
    async (options: ClusterOptions & { readonly force?: boolean; readonly output: Format }) => {
      const { registeredHosts, uninstall } = await import("../../bootstrap/enroller/index.ts");
      const namespace = options.linkerdNamespace;
      const { deleted, hosts } = await kubernetes(options, async (client) => {
        const left = await registeredHosts(client);
        if (left.length > 0 && options.force !== true) {
          throw new CommandError(
            EXIT.configuration,
            `${left.length} hosts are still registered: ${left.slice(0, 10).join(", ")}${left.length > 10 ? ", …" : ""}`,
            "run mesh-agent down on each, or uninstall with --force: they lose their watch, and their certificates run out",
          );
        }
        return { deleted: await uninstall(client, namespace), hosts: left };
      });
      print(options.output, { deleted, hosts }, () => {
        const lines = deleted.map((object) => `deleted ${object}`);
        if (hosts.length > 0)
          lines.push(`${hosts.length} hosts are still registered and nobody watches over them: ${hosts.join(", ")}`);
        return `${[...lines, "The enroller, its rights, groups, invitations and leases are gone."].join("\n")}\n`;
      });
    },
  );
}

async function checked(options: Options): Promise<InstallOptions> {
  const { parseDuration } = await import("../../bootstrap/enroller/index.ts");
  const { grpcTarget } = await import("../../bootstrap/control/index.ts");
  const { parseCidr } = await import("../../proxy/core/address.ts");
  const { capture = [], externalAddress, proxyProtocol } = options;
  for (const network of capture) parsed(network, parseCidr, "--capture", "a network such as 10.43.0.0/16");
  const balancers = proxyProtocol === undefined ? undefined : networksOf(proxyProtocol);
  for (const network of balancers ?? []) parsed(network, parseCidr, "--proxy-protocol", "a network such as 10.0.0.0/8");
  for (const address of externalAddress ?? []) parsed(address, grpcTarget, "--external-address", "HOST:PORT");
  const lifetimeMs = parsed(options.lifetime, parseDuration, "--lifetime", "such as 24h");
  if (lifetimeMs < 3_600_000 || lifetimeMs > 30 * 86_400_000)
    throw new CommandError(EXIT.usage, `--lifetime ${options.lifetime}: expected 1h to 30d`);
  return {
    namespace: options.linkerdNamespace,
    image: options.image,
    capture,
    replicas: parsed(
      options.replicas,
      (text) => (/^[1-9]\d?$/.test(text) ? Number(text) : undefined),
      "--replicas",
      "1 to 99",
    ),
    serviceType: options.serviceType,
    issuerSecret: options.issuerSecret,
    lifetime: options.lifetime,
    metricsPort: options.metricsPort,
    ...(externalAddress !== undefined && { externalAddress }),
    ...(balancers !== undefined && { proxyProtocol: balancers }),
  };
}
