import type { Command } from "commander";
import { CommandError, EXIT } from "../exit.ts";
import { type ClusterOptions, clusterOptions, kubernetes, parsed } from "./cluster-options.ts";
import { type Format, outputOption } from "./output.ts";

interface Options extends ClusterOptions {
  readonly namespace: string;
  readonly port: readonly string[];
  readonly opaquePort: readonly string[];
  readonly probe: readonly string[];
  readonly label: readonly string[];
  readonly serviceAccount?: string;
  readonly uses: string;
  readonly expires: string;
  readonly from: readonly string[];
  readonly enroller?: readonly string[];
  readonly defaultInboundPolicy?: string;
  readonly output: Format;
}

export function register(program: Command): void {
  const command = program
    .command("invite <name>")
    .description("make an invitation for a group of hosts and print its join string (needs rights in the cluster)")
    .requiredOption("-n, --namespace <namespace>", "namespace of the workload")
    .option("--port <name=port...>", "ports that the workload serves, such as http=8080", [])
    .option("--opaque-port <port...>", "ports whose bytes are not to be parsed", [])
    .option("--probe <probe...>", "http:8080/healthz, tcp:5432, grpc:9000[/SERVICE] or exec:COMMAND", [])
    .option("--label <key=value...>", "labels of the ExternalWorkload, for Services and policies to select", [])
    .option("--service-account <name>", "whose identity the hosts have (default: the name)")
    .option("--uses <count>", "how many hosts may join with the string", "1")
    .option("--expires <duration>", "how long the string is good: 90s, 30m, 1h, 7d", "1h")
    .option("--from <cidr...>", "networks from which it may be used (default: any)", [])
    .option("--enroller <host:port...>", "where hosts reach the enroller (default: its Service's load balancer)")
    .option("--default-inbound-policy <policy>", "for ports without a Server, such as all-authenticated")
    .addOption(outputOption());
  clusterOptions(command).action(async (name: string, options: Options) => {
    const enroller = await import("../../bootstrap/enroller/index.ts");
    const ports = options.port.map((text) => parsed(text, enroller.parseWorkloadPort, "--port", "NAME=NUMBER"));
    const asked = options.opaquePort.map((text) =>
      parsed(text, (digits) => (/^\d+$/.test(digits) ? Number(digits) : undefined), "--opaque-port", "a number"),
    );
    const lifetimeMs = parsed(options.expires, enroller.parseDuration, "--expires", "such as 30m, 1h or 7d");
    const terms = {
      format: 1,
      namespace: options.namespace,
      name,
      serviceAccount: options.serviceAccount ?? name,
      ports,
      opaquePorts: enroller.opaquePortsOf(ports, asked),
      probes: options.probe.map((text) => parsed(text, enroller.parseProbe, "--probe", "such as http:8080/healthz")),
      labels: Object.fromEntries(
        options.label.map((text) => parsed(text, enroller.parseLabel, "--label", "KEY=VALUE")),
      ),
      from: options.from,
      uses: parsed(options.uses, (text) => (/^\d+$/.test(text) ? Number(text) : undefined), "--uses", "a number"),
      expiresAtMs: Date.now() + lifetimeMs,
      ...(options.defaultInboundPolicy !== undefined && { defaultInboundPolicy: options.defaultInboundPolicy }),
    } as const;
    // Before the cluster is asked: misuse should not need a connection to be noticed.
    const problem = enroller.checkTerms(terms);
    if (problem !== undefined) throw new CommandError(EXIT.usage, problem);
    const invited = await kubernetes(options, (client) =>
      enroller.createInvitation(client, {
        namespace: options.linkerdNamespace,
        terms,
        ...(options.enroller !== undefined && { enrollers: options.enroller }),
      }),
    );
    if (options.output === "json") {
      const { joinString, id, enrollers, warnings } = invited;
      process.stdout.write(`${JSON.stringify({ id, joinString, enrollers, warnings, terms }, undefined, 2)}\n`);
      return;
    }
    for (const warning of invited.warnings) process.stderr.write(`mesh-agent: note: ${warning}\n`);
    // Alone on standard output, so that a pipe gets the string and nothing else.
    process.stdout.write(`${invited.joinString}\n`);
  });
}
