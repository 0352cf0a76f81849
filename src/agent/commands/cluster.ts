import type { Command } from "commander";
import { CommandError, EXIT } from "../exit.ts";
import { registerApproval } from "./cluster-approval.ts";
import { registerCheck } from "./cluster-check.ts";
import { registerInstall } from "./cluster-install.ts";
import { type ClusterOptions, clusterOptions, kubernetes } from "./cluster-options.ts";

export function register(program: Command): void {
  const cluster = program.command("cluster").description("prepare a cluster for hosts, approve and revoke them");
  registerInstall(cluster);
  registerCheck(cluster);
  registerApproval(cluster);
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
