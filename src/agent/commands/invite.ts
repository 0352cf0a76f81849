import { type Command, Option } from "commander";
import type { GroupAdmission, InvitationTerms } from "../../bootstrap/enroller/index.ts";
import { CommandError, EXIT } from "../exit.ts";
import { type ClusterOptions, clusterOptions, kubernetes, parsed } from "./cluster-options.ts";
import { registerInvitations } from "./invitations.ts";

interface Options extends ClusterOptions {
  readonly group?: string;
  readonly namespace?: string;
  readonly port: readonly string[];
  readonly opaquePort: readonly string[];
  readonly probe: readonly string[];
  readonly label: readonly string[];
  readonly annotation: readonly string[];
  readonly serviceAccount?: string;
  readonly uses: string;
  readonly expires: string;
  readonly from: readonly string[];
  readonly allow?: readonly string[];
  readonly maxHosts?: string;
  readonly approval?: "Automatic" | "Manual";
  readonly enroller?: readonly string[];
  readonly defaultInboundPolicy?: string;
  readonly dryRun?: boolean;
  readonly output: "text" | "json" | "yaml";
}

const TEMPLATE = [
  "port",
  "opaquePort",
  "probe",
  "label",
  "annotation",
  "serviceAccount",
  "defaultInboundPolicy",
] as const;

export function register(program: Command): void {
  const command = program
    .command("invite [group]")
    .description("make an invitation for a group of hosts and print its join string (needs rights in the cluster)")
    // So that `invite list -o json` gives its options to `list`.
    .enablePositionalOptions()
    .option("--group <name>", "the group, if its name is that of a subcommand")
    .option("-n, --namespace <namespace>", "namespace of the group and its workloads")
    .option("--port <name=port...>", "ports that the workload serves, such as http=8080", [])
    .option("--opaque-port <port...>", "ports whose bytes are not to be parsed", [])
    .option("--probe <probe...>", "http:8080/healthz, tcp:5432, grpc:9000[/SERVICE] or exec:COMMAND", [])
    .option("--label <key=value...>", "labels of the ExternalWorkload, for Services and policies to select", [])
    .option("--annotation <key=value...>", "annotations of the ExternalWorkload", [])
    .option("--service-account <name>", "whose identity the hosts have (default: the name)")
    .option("--default-inbound-policy <policy>", "for ports without a Server, such as all-authenticated")
    .option("--allow <cidr...>", "networks from which hosts may join the group, by any invitation")
    .option("--max-hosts <count>", "how many hosts the group may have, over all invitations")
    .addOption(
      new Option("--approval <how>", "Manual: hosts wait for `cluster approve`").choices(["Automatic", "Manual"]),
    )
    .option("--uses <count>", "how many hosts may join with the string", "1")
    .option("--expires <duration>", "how long the string is good: 90s, 30m, 1h, 7d", "1h")
    .option("--from <cidr...>", "networks from which it may be used (default: any)", [])
    .option("--enroller <host:port...>", "where hosts reach the enroller (default: what its Service says)")
    .option("--dry-run", "print the group to commit or apply, and make nothing; no cluster is asked")
    .addOption(
      new Option("-o, --output <format>", "text, json or yaml").choices(["text", "json", "yaml"]).default("text"),
    );
  clusterOptions(command).action(async (name: string | undefined, options: Options) => {
    const enroller = await import("../../bootstrap/enroller/index.ts");
    const terms = await termsOf(name ?? options.group, options);
    const admission = admissionOf(options);
    // Before the cluster is asked: misuse should not need a connection to be noticed.
    const problem = enroller.checkTerms(terms) ?? enroller.checkGroup(enroller.groupFor(terms, admission));
    if (problem !== undefined) throw new CommandError(EXIT.usage, problem);
    if (options.dryRun === true) {
      await printDocument(options.output, enroller.groupFor(terms, admission));
      process.stderr.write(
        `mesh-agent: note: nothing was made; once the group is applied, mesh-agent invite ${terms.name} -n ${terms.namespace} prints join strings for it\n`,
      );
      return;
    }
    if (options.output === "yaml") throw new CommandError(EXIT.usage, "-o yaml: only with --dry-run");
    const invited = await kubernetes(options, (client) =>
      enroller.createInvitation(client, {
        namespace: options.linkerdNamespace,
        terms,
        admission,
        described: TEMPLATE.some((key) => (options[key]?.length ?? 0) > 0),
        ...(options.enroller !== undefined && { enrollers: options.enroller }),
      }),
    );
    if (options.output === "json") {
      const { joinString, id, enrollers, warnings, created, group } = invited;
      const said = { id, joinString, enrollers, warnings, created, group: group.spec, terms };
      process.stdout.write(`${JSON.stringify(said, undefined, 2)}\n`);
      return;
    }
    if (invited.created) process.stderr.write(`mesh-agent: note: made the group ${terms.namespace}/${terms.name}\n`);
    for (const warning of invited.warnings) process.stderr.write(`mesh-agent: note: ${warning}\n`);
    // Alone on standard output, so that a pipe gets the string and nothing else.
    process.stdout.write(`${invited.joinString}\n`);
  });
  registerInvitations(command);
}

async function termsOf(name: string | undefined, options: Options): Promise<InvitationTerms> {
  const enroller = await import("../../bootstrap/enroller/index.ts");
  if (name === undefined) throw new CommandError(EXIT.usage, "which group? mesh-agent invite GROUP -n NAMESPACE");
  const { namespace } = options;
  if (namespace === undefined) throw new CommandError(EXIT.usage, "required option '-n, --namespace' is missing");
  const ports = options.port.map((text) => parsed(text, enroller.parseWorkloadPort, "--port", "NAME=NUMBER"));
  const asked = options.opaquePort.map((text) => parsed(text, readCount, "--opaque-port", "a number"));
  const pairs = (texts: readonly string[], option: string) =>
    Object.fromEntries(texts.map((text) => parsed(text, enroller.parseLabel, option, "KEY=VALUE")));
  return {
    format: 1,
    namespace,
    name,
    serviceAccount: options.serviceAccount ?? name,
    ports,
    opaquePorts: enroller.opaquePortsOf(ports, asked),
    probes: options.probe.map((text) => parsed(text, enroller.parseProbe, "--probe", "such as http:8080/healthz")),
    labels: pairs(options.label, "--label"),
    annotations: pairs(options.annotation, "--annotation"),
    from: options.from,
    uses: parsed(options.uses, readCount, "--uses", "a number"),
    expiresAtMs: Date.now() + parsed(options.expires, enroller.parseDuration, "--expires", "such as 30m, 1h or 7d"),
    ...(options.defaultInboundPolicy !== undefined && { defaultInboundPolicy: options.defaultInboundPolicy }),
  };
}

function admissionOf({ allow, maxHosts, approval }: Options): GroupAdmission {
  return {
    ...(allow !== undefined && { allowedNetworks: allow }),
    ...(maxHosts !== undefined && { maxHosts: parsed(maxHosts, readHosts, "--max-hosts", "0 to 1000") }),
    ...(approval !== undefined && { approval }),
  };
}

async function printDocument(format: Options["output"], document: object): Promise<void> {
  const { stringify } = await import("yaml");
  const text =
    format === "json"
      ? `${JSON.stringify(document, undefined, 2)}\n`
      : stringify(document, { lineWidth: 0, aliasDuplicateObjects: false });
  process.stdout.write(text);
}

function readCount(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

function readHosts(text: string): number | undefined {
  const count = readCount(text);
  return count !== undefined && count <= 1000 ? count : undefined;
}
