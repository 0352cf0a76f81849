import type { Command } from "commander";
import type { HostDecision } from "../../bootstrap/enroller/index.ts";
import { CommandError, EXIT } from "../exit.ts";
import { type ClusterOptions, clusterOptions, kubernetes } from "./cluster-options.ts";
import { age, type Format, outputOption, print, table } from "./output.ts";

interface DecideOptions extends ClusterOptions {
  readonly group?: string;
  readonly output: Format;
}

/** Adds `pending`, `approve` and `deny`. */
export function registerApproval(cluster: Command): void {
  const pending = cluster
    .command("pending")
    .description("hosts that wait for approval, oldest first")
    .option("-n, --namespace <namespace>", "of one namespace (default: of all)")
    .addOption(outputOption());
  clusterOptions(pending).action(
    async (options: ClusterOptions & { readonly namespace?: string; readonly output: Format }) => {
      const { waitingHosts } = await import("../../bootstrap/enroller/index.ts");
      const hosts = await kubernetes(options, (client) => waitingHosts(client, options.namespace));
      print(options.output, hosts, () => {
        if (hosts.length === 0) return "No host waits for approval.\n";
        const rows = hosts.map(({ namespace, group, name, hostname = "", address = "", since, key }) => [
          `${namespace}/${name}`,
          `${namespace}/${group}`,
          address,
          hostname,
          age(Date.now() - Date.parse(since)),
          key.slice(0, 16),
        ]);
        return `${table([["HOST", "GROUP", "FROM", "CALLS ITSELF", "WAITS", "KEY"], ...rows])}\n`;
      });
    },
  );
  decision(cluster, "approve", "Approve", "let hosts join that wait for it, each with the key that it has shown");
  decision(cluster, "deny", "Deny", "refuse hosts that wait for approval, or have been approved and not joined yet");
}

function decision(cluster: Command, verb: string, word: HostDecision["decision"], description: string): void {
  const command = cluster
    .command(`${verb} [hosts...]`)
    .description(`${description}: NAMESPACE/HOST, as \`cluster pending\` lists them`)
    .option("--group <namespace/name>", "all hosts of a group that wait now")
    .addOption(outputOption());
  clusterOptions(command).action(async (hosts: readonly string[], options: DecideOptions) => {
    if ((hosts.length === 0) === (options.group === undefined))
      throw new CommandError(EXIT.usage, "name hosts as NAMESPACE/HOST, or a group with --group NAMESPACE/NAME");
    const { decide, groupOfHost } = await import("../../bootstrap/enroller/index.ts");
    const decided = await kubernetes(options, async (client) => {
      const done: string[] = [];
      if (options.group !== undefined) {
        const { namespace, name } = split(options.group);
        const all = await decide(client, namespace, name, word, ({ state }) => state === "Pending");
        done.push(...all.map((host) => `${namespace}/${host.name}`));
      }
      for (const host of hosts) {
        const { namespace, name } = split(host);
        const group = await groupOfHost(client, namespace, name);
        if (group === undefined) {
          throw new CommandError(EXIT.configuration, `no group lists a host ${host}`, "mesh-agent cluster pending");
        }
        await decide(client, namespace, group, word, (listed) => listed.name === name);
        done.push(host);
      }
      return done;
    });
    print(options.output, decided, () => {
      if (decided.length === 0) return "No host of the group waits for approval.\n";
      const ending = word === "Approve" ? "approved: it joins when it asks the next time, within a minute" : "denied";
      return decided.map((host) => `${host} is ${ending}.\n`).join("");
    });
  });
}

function split(text: string): { readonly namespace: string; readonly name: string } {
  const match = /^([^/]+)\/([^/]+)$/.exec(text);
  if (match === null) throw new CommandError(EXIT.usage, `${text}: expected NAMESPACE/NAME`);
  return { namespace: match[1] ?? "", name: match[2] ?? "" };
}
