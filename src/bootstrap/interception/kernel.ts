import { explainFailure } from "./errors.ts";
import type { Run } from "./run.ts";

// What the rules are made of, one statement each, so that the kernel names the one that it lacks: a table that is checked
// and never loaded. Kernel options: NFT_TPROXY, NFT_SOCKET, NFT_CT, NF_TABLES_INET, and sets with timeouts.
const CHAIN =
  "add table inet mesh_agent_try\nadd chain inet mesh_agent_try p { type filter hook prerouting priority mangle; }\n";
const FEATURES: readonly (readonly [name: string, kernelModule: string, statements: string])[] = [
  [
    "transparent proxying (tproxy)",
    "nft_tproxy",
    "add rule inet mesh_agent_try p meta l4proto tcp tproxy ip to 127.0.0.1:9",
  ],
  ["socket lookup (socket)", "nft_socket", "add rule inet mesh_agent_try p socket transparent 1 accept"],
  ["connection marks (ct mark)", "nf_conntrack", "add rule inet mesh_agent_try p ct mark set 1"],
  [
    "sets with timeouts",
    "nf_tables",
    "add set inet mesh_agent_try s { type nf_proto; size 8; flags dynamic,timeout; timeout 1s; }",
  ],
];

/** What the kernel of this host cannot do for us. */
export interface MissingFeature {
  readonly feature: string;
  /** The module that a kernel would load for it. */
  readonly module: string;
}

/**
 * Asks the kernel for each thing that the rules need, changing nothing (root).
 * @returns the first that it lacks; undefined if it has all.
 * @throws InterceptionError if nft is missing or not permitted.
 */
export async function missingKernelFeature(run: Run): Promise<MissingFeature | undefined> {
  const table = await run("nft", ["--check", "--file", "-"], CHAIN);
  if (table.code !== 0) {
    const failure = explainFailure("nft", table);
    if (failure.problem !== "kernel-feature") throw failure;
    return { feature: "nftables for IPv4 and IPv6 together (inet)", module: "nf_tables" };
  }
  for (const [feature, module, statements] of FEATURES) {
    const { code } = await run("nft", ["--check", "--file", "-"], `${CHAIN}${statements}\n`);
    if (code !== 0) return { feature, module };
  }
  return undefined;
}
