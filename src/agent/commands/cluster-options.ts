import type { Command } from "commander";
import type { KubeClient } from "../../bootstrap/enroller/kubernetes.ts";
import { CommandError, EXIT } from "../exit.ts";

/** How a command finds the cluster. */
export interface ClusterOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly inCluster?: boolean;
  readonly linkerdNamespace: string;
}

/** Adds the options that every command with rights in the cluster has. */
export function clusterOptions(command: Command): Command {
  return command
    .option("--kubeconfig <file>", "credentials (default: as kubectl)")
    .option("--context <name>", "context of the kubeconfig")
    .option("--linkerd-namespace <namespace>", "namespace of Linkerd's control plane", "linkerd");
}

/** A KubeClient from the options. @throws CommandError if there are no credentials. */
export async function connect(options: ClusterOptions): Promise<KubeClient> {
  const { loadKubeClient } = await import("../../bootstrap/enroller/kubernetes-client.ts");
  try {
    return loadKubeClient({
      ...(options.kubeconfig !== undefined && { kubeconfig: options.kubeconfig }),
      ...(options.context !== undefined && { context: options.context }),
      ...(options.inCluster !== undefined && { inCluster: options.inCluster }),
    });
  } catch (error) {
    throw new CommandError(EXIT.configuration, `no cluster: ${messageOf(error)}`, "name a file with --kubeconfig");
  }
}

/** Runs with a client; what the cluster refuses becomes one line with an exit status of its own. */
export async function kubernetes<T>(options: ClusterOptions, run: (client: KubeClient) => Promise<T>): Promise<T> {
  const client = await connect(options);
  try {
    return await run(client);
  } catch (error) {
    throw asCommandError(error);
  }
}

/** A failure of the cluster side as the end of a command. */
export function asCommandError(error: unknown): unknown {
  // By shape: the cluster's code may live in a bundle of its own.
  if (error instanceof Error && error.name === "KubeError" && "code" in error && typeof error.code === "number") {
    if (error.code === 0)
      return new CommandError(EXIT.unreachable, error.message, "check the kubeconfig and the network");
    if (error.code === 401 || error.code === 403) {
      return new CommandError(EXIT.notPermitted, error.message, "use an account with rights in Linkerd's namespace");
    }
    return new CommandError(EXIT.tryAgain, `the API server refused: ${error.message}`);
  }
  if (error instanceof RangeError) return new CommandError(EXIT.usage, error.message);
  return error instanceof Error && error.constructor === Error
    ? new CommandError(EXIT.configuration, error.message)
    : error;
}

/** An option's text as a value. @throws CommandError that names the option. */
export function parsed<T>(text: string, parse: (text: string) => T | undefined, option: string, wanted: string): T {
  const value = parse(text);
  if (value === undefined) throw new CommandError(EXIT.usage, `${option} ${text}: expected ${wanted}`);
  return value;
}

/** The values of a variadic option that may stand alone. */
export function networksOf(option: true | readonly string[]): readonly string[] {
  return option === true ? [] : option;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
