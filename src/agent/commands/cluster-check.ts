import { X509Certificate } from "node:crypto";
import type { Command } from "commander";
import { EXIT } from "../exit.ts";
import { type ClusterOptions, clusterOptions, kubernetes } from "./cluster-options.ts";
import { type Format, outputOption, print } from "./output.ts";

const SIGNS = { ok: "ok", warning: "warning", failed: "FAILED", skipped: "skipped" } as const;

/** Adds `check`. */
export function registerCheck(cluster: Command): void {
  const command = cluster
    .command("check")
    .description("verify an installation step by step; ends with 1 if a step failed")
    .addOption(outputOption());
  clusterOptions(command).action(async (options: ClusterOptions & { readonly output: Format }) => {
    const { CHECKS, checkInstallation } = await import("../../bootstrap/enroller/index.ts");
    const { certificatePin } = await import("../../bootstrap/control/index.ts");
    const { findPinnedRoot } = await import("../../bootstrap/identity/index.ts");
    const results = await kubernetes(options, (client) =>
      checkInstallation(client, {
        namespace: options.linkerdNamespace,
        wallMs: Date.now(),
        reach: async (address, mesh, rootsPem) => {
          const pins = rootsPem.map((pem) => certificatePin(new X509Certificate(pem)));
          // As a new host would look at it, without anything to spend.
          const join = { ...mesh, enrollers: [address], pins, invitationId: "", secret: Buffer.alloc(0) };
          await findPinnedRoot(address, join, Date.now());
        },
      }),
    );
    print(options.output, results, () =>
      results
        .map(({ code, state, evidence, fix }) => {
          const line = `${SIGNS[state].padEnd(8)} ${code.padEnd(15)} ${CHECKS[code]}: ${evidence}\n`;
          return fix === undefined ? line : `${line}${" ".repeat(25)}fix: ${fix}\n`;
        })
        .join(""),
    );
    if (results.some(({ state }) => state === "failed")) process.exitCode = EXIT.failure;
  });
}
