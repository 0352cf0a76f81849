import type { Command } from "commander";
import { CommandError, EXIT } from "../exit.ts";
import { type ClusterOptions, clusterOptions, kubernetes } from "./cluster-options.ts";
import { type Format, outputOption, print, table } from "./output.ts";

/** `mesh-agent invitations`, as it was called before it moved under `invite`. */
export function register(program: Command): void {
  registerInvitations(
    program.command("invitations", { hidden: true }).description("the same as invite list and invite revoke"),
  );
}

/** Adds `list` and `revoke`. */
export function registerInvitations(invitations: Command): void {
  const list = invitations
    .command("list")
    .description("every invitation: for whom, how often used, until when")
    .addOption(outputOption());
  clusterOptions(list).action(async (options: ClusterOptions & { readonly output: Format }) => {
    const { listInvitations } = await import("../../bootstrap/enroller/index.ts");
    const found = await kubernetes(options, (client) => listInvitations(client, options.linkerdNamespace, Date.now()));
    print(options.output, found, () => {
      const rows = found.map(({ id, group, used, uses, from, expires, state }) => [
        id,
        group,
        state,
        `${used}/${uses}`,
        expires,
        from.length === 0 ? "anywhere" : from.join(","),
      ]);
      return `${table([["ID", "GROUP", "STATE", "USED", "EXPIRES", "FROM"], ...rows])}\n`;
    });
  });
  const revoke = invitations
    .command("revoke <id>")
    .description("take an invitation back; hosts that joined with it stay (see `cluster revoke`)");
  clusterOptions(revoke).action(async (id: string, options: ClusterOptions) => {
    const { revokeInvitation } = await import("../../bootstrap/enroller/index.ts");
    const known = await kubernetes(options, (client) => revokeInvitation(client, options.linkerdNamespace, id));
    if (!known) {
      throw new CommandError(EXIT.configuration, `there is no invitation ${id}`, "mesh-agent invite list");
    }
    process.stdout.write(`Invitation ${id} is taken back: nobody can join with its string any more.\n`);
  });
}
