import type { Command } from "commander";
import { listen } from "../admin/listen.ts";
import { CommandError, EXIT } from "../exit.ts";
import { VERSION } from "../version.ts";
import { asCommandError, type ClusterOptions, clusterOptions, connect, networksOf, parsed } from "./cluster-options.ts";

interface Options extends ClusterOptions {
  readonly listen: string;
  readonly admin: string;
  readonly issuerSecret: string;
  readonly lifetime: string;
  readonly capture?: readonly string[];
  readonly metricsPort: boolean;
  readonly proxyProtocol?: true | readonly string[];
  readonly gcAfter: string;
  readonly trustDomain?: string;
  readonly clusterDomain?: string;
  readonly logLevel: string;
}

const LEVELS = ["error", "warn", "info", "debug"] as const;

export function register(program: Command): void {
  const command = program
    .command("enroller")
    .description("run the cluster side: sign certificates, register hosts, watch over them")
    .option("--in-cluster", "use the account of the pod")
    .option("--listen <address>", "where hosts connect", ":4145")
    .option("--admin <address>", "metrics, liveness and readiness over HTTP", ":9990")
    .option("--issuer-secret <name>", "Secret with the issuing CA", "linkerd-identity-issuer")
    .option("--lifetime <duration>", "of the hosts' certificates, 1h to 30d", "24h")
    .option("--capture <cidr...>", "networks that hosts send through the mesh (default: the cluster's ServiceCIDRs)")
    .option("--no-metrics-port", "leave port 4191 out of the ExternalWorkloads")
    .option(
      "--proxy-protocol [cidr...]",
      "balancers that say with PROXY protocol v1 or v2 who calls (without networks: whoever connects)",
    )
    .option("--gc-after <duration>", "delete hosts that have been gone for so long", "24h")
    .option("--trust-domain <name>", "(default: what linkerd-config says)")
    .option("--cluster-domain <name>", "(default: what linkerd-config says)")
    .option("--log-level <level>", LEVELS.join(", "), "info");
  clusterOptions(command).action(async (options: Options) => {
    const { parseDuration, startEnroller } = await import("../../bootstrap/enroller/index.ts");
    const { parseCidr } = await import("../../proxy/core/address.ts");
    const { createLogger } = await import("../log.ts");
    const { createEnrollerPage } = await import("../enroller-page.ts");
    const admin = parsed(options.admin, parseListen, "--admin", "[HOST]:PORT");
    const level = parsed(
      options.logLevel,
      (text) => LEVELS.find((known) => known === text),
      "--log-level",
      LEVELS.join(", "),
    );
    const logger = createLogger(level);
    const client = await connect(options);
    const at = (say: typeof logger.info) => (fields: Readonly<Record<string, unknown>>, message: string) =>
      say(message, Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, plain(value)])));
    const running = await startEnroller({
      client,
      version: VERSION,
      listen: parsed(options.listen, parseListen, "--listen", "[HOST]:PORT"),
      namespace: options.linkerdNamespace,
      issuerSecret: options.issuerSecret,
      lifetimeMs: parsed(options.lifetime, parseDuration, "--lifetime", "such as 24h"),
      gcAfterMs: parsed(options.gcAfter, parseDuration, "--gc-after", "such as 24h"),
      metricsPort: options.metricsPort,
      ...(options.capture !== undefined && { captureNetworks: options.capture }),
      ...(options.proxyProtocol !== undefined && {
        balancers: networksOf(options.proxyProtocol).map((text) =>
          parsed(text, parseCidr, "--proxy-protocol", "a network such as 10.0.0.0/8"),
        ),
      }),
      ...(options.trustDomain !== undefined && { trustDomain: options.trustDomain }),
      ...(options.clusterDomain !== undefined && { clusterDomain: options.clusterDomain }),
      log: { debug: at(logger.debug), info: at(logger.info), warn: at(logger.warn), error: at(logger.error) },
    }).catch((error: unknown) => {
      throw isAddressError(error)
        ? new CommandError(
            EXIT.configuration,
            `cannot listen on ${options.listen}: ${error.message}`,
            "choose another --listen",
          )
        : asCommandError(error);
    });
    await listen(createEnrollerPage(running, Date.now()), admin, "--admin");
    await new Promise<void>((resolve) => {
      process.once("SIGTERM", resolve);
      process.once("SIGINT", resolve);
    });
    await running.stop(5000);
    process.exit(EXIT.ok);
  });
}

/** `:4145`, `127.0.0.1:4145` or `[::1]:4145`; without a host, all addresses of both families. */
function parseListen(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) return undefined;
  return { host: match[1] ?? (match[2] === "" || match[2] === undefined ? "::" : match[2]), port };
}

function plain(value: unknown): string | number | boolean {
  return typeof value === "number" || typeof value === "boolean" ? value : String(value);
}

function isAddressError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && error.syscall === "listen";
}
