import { expect, it } from "vitest";
import { apply, type Outcome, parseOptions, plan, type Run } from "../../../../src/bootstrap/interception/index.ts";

const made = plan(
  parseOptions({
    format: 1,
    outbound: { networks: ["10.43.0.0/16"] },
    inbound: { ports: [8080] },
    agent: { uid: 990 },
  }),
  { families: [4, 6], cgroups: new Map(), ssh: { ports: [], cgroups: [] }, filteredBridges: [] },
);

/** A host whose programs answer as told, by the beginning of the command; everything else succeeds and is noted. */
function host(answers: Readonly<Record<string, Partial<Outcome>>>) {
  const changes: string[] = [];
  const run: Run = (program, args, input = "") => {
    // What a rule is refused for stands in for the rule.
    const what = args.includes("--check") && / tproxy /.test(input) ? " tproxy" : "";
    const line = [program, args[0] === "--check" ? `--check${what}` : "", ...args.slice(args[0] === "--check" ? 1 : 0)]
      .filter(Boolean)
      .join(" ");
    const told = Object.entries(answers).find(([beginning]) => line.startsWith(beginning))?.[1];
    if (told !== undefined) return Promise.resolve({ code: 0, stdout: "", stderr: "", ...told });
    if (line === "nft --version") return Promise.resolve({ code: 0, stdout: "nftables v1.0.6 (x)", stderr: "" });
    if (/ (?:add|del) | --file /.test(line) && !line.includes("--check")) changes.push(line);
    return Promise.resolve({ code: 0, stdout: "", stderr: "" });
  };
  return { run, changes };
}

const missing = { code: 127, stderr: "spawn ENOENT" };
it.each<[string, Record<string, Partial<Outcome>>, string, string, string]>([
  [
    "nft is absent",
    { nft: missing },
    "nft-missing",
    "the program nft is not installed",
    "install the package nftables",
  ],
  [
    "nft is too old",
    { "nft --version": { stdout: "nftables v0.9.8 (E.D.S.)" } },
    "nft-too-old",
    "nft is nftables v0.9.8 (E.D.S.)",
    "install nftables 1.0.6 or later",
  ],
  ["ip is absent", { "ip ": missing }, "ip-missing", "the program ip is not installed", "install the package iproute2"],
  [
    "the kernel lacks nf_tables for both families",
    {
      "nft --check": {
        code: 1,
        stderr: "/dev/stdin:22:1-99: Error: Could not process rule: No such file or directory\nadd rule …",
      },
    },
    "kernel-feature",
    "the kernel lacks nftables for IPv4 and IPv6 together (inet)",
    "modprobe nf_tables",
  ],
  [
    "the kernel lacks the module nft_tproxy, found out by itself",
    {
      "nft --check tproxy": { code: 1, stderr: "Error: Could not process rule: No such file or directory" },
    },
    "kernel-feature",
    "the kernel lacks transparent proxying (tproxy)",
    "modprobe nft_tproxy, or boot a kernel that has it",
  ],
  [
    "the kernel says it in another way",
    { "nft --check tproxy": { code: 1, stderr: "Error: Could not process rule: Operation not supported" } },
    "kernel-feature",
    "the kernel lacks transparent proxying (tproxy)",
    "nft_tproxy",
  ],
  [
    "it may not",
    { "nft --check": { code: 1, stderr: "Error: Operation not permitted (you must be root)" } },
    "not-permitted",
    "nft may not change the network",
    "run this command as root",
  ],
])("changes nothing and names it in one line: %s", async (_, answers, problem, message, remedy) => {
  const { run, changes } = host(answers);
  const error = await apply(made, run).then(
    () => expect.fail("it was applied"),
    (thrown: { problem: string; message: string; remedy: string }) => thrown,
  );
  expect(error.problem).toBe(problem);
  expect(error.message).toContain(message);
  expect(error.message).not.toContain("\n");
  expect(error.remedy).toContain(remedy);
  expect(changes).toEqual([]);
});

it("takes its routes and rules back if the table cannot be loaded after all", async () => {
  const { run, changes } = host({ "nft --file": { code: 1, stderr: "Error: Device or resource busy" } });
  await expect(apply(made, run)).rejects.toMatchObject({ problem: "failed" });
  const added = changes.filter((line) => line.includes(" add "));
  const removed = changes.filter((line) => line.includes(" del "));
  expect(added).toHaveLength(8);
  expect(removed.map((line) => line.replace(" del ", " add "))).toEqual([...added].reverse());
});
