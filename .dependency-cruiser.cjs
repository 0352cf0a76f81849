// The house's walls. Imports point down: a file imports from its own folder or from a lower ring. Everything below is
// made from this one list, lowest ring first; ARCHITECTURE.md has the drawing. test/rings/ proves that each rule fires.
const RINGS = [
  ["proxy/core"],
  ["proxy/wire", "proxy/policy", "proxy/balance", "proto"],
  ["proxy/stack"],
  ["proxy/transport", "proxy/discovery"],
  ["proxy/inbound", "proxy/outbound"],
  ["bootstrap"],
  ["agent"],
  ["lab"],
];
// The one door upwards: the lab and its demo are commands too. Loaded only when asked for.
const LAB_COMMAND = "^src/agent/commands/(lab|demo)[^/]*\\.ts$";
const PURE = "^src/proxy/(core|wire|policy|balance)/";

/** One rule per folder: nothing of `src` that is neither the folder itself nor in a lower ring. */
const folders = RINGS.flatMap((ring, height) =>
  ring.map((folder) => ({
    name: `ring:${folder}`,
    comment: `${folder} is in ring ${height}: it may import its own folder and rings below, not its neighbours and nothing above.`,
    severity: "error",
    from: folder === "agent" ? { path: "^src/agent/", pathNot: LAB_COMMAND } : { path: `^src/${folder}/` },
    to: { path: "^src/", pathNot: `^src/(${[folder, ...RINGS.slice(0, height).flat()].join("|")})/` },
  })),
);

module.exports = {
  forbidden: [
    ...folders,
    {
      name: "bootstrap-meets-the-data-plane-in-agent",
      comment:
        "bootstrap may use rings 0 to 2, proto and proxy/transport; it learns of discovery, inbound and outbound through interfaces in core.",
      severity: "error",
      from: { path: "^src/bootstrap/" },
      to: { path: "^src/proxy/(discovery|inbound|outbound)/" },
    },
    {
      name: "bootstrap-inner-ring",
      comment: "Inside bootstrap, control is the inner ring; the other folders use it and do not know each other.",
      severity: "error",
      from: { path: "^src/bootstrap/([^/]+)/" },
      to: { path: "^src/bootstrap/", pathNot: "^src/bootstrap/(control|$1)/" },
    },
    {
      name: "one-machine-one-protocol",
      comment: "A wire machine knows one protocol: upgrading means handing the unread bytes to the next one.",
      severity: "error",
      from: { path: "^src/proxy/wire/([^/]+)/" },
      to: { path: "^src/proxy/wire/", pathNot: "^src/proxy/wire/$1/" },
    },
    {
      name: "protobuf-behind-one-door",
      comment: "The data plane reads plain models; protobuf stops at proxy/discovery.",
      severity: "error",
      from: { path: "^src/proxy/(stack|transport|inbound|outbound)/" },
      to: { path: "^src/proto/" },
    },
    {
      name: "pure-rings-only-think",
      comment: "Pure rings import no Node module and no package: time, chance and bytes come in as arguments.",
      severity: "error",
      from: { path: PURE },
      to: { pathNot: "^src/" },
    },
    {
      name: "proto-needs-its-runtime-only",
      comment: "Generated code imports the protobuf runtime and itself.",
      severity: "error",
      from: { path: "^src/proto/" },
      to: { pathNot: ["^src/proto/", "(^|/)@bufbuild/protobuf(/|$)"] },
    },
    {
      name: "libc-in-one-file",
      comment: "node:ffi is experimental: only agent/posix.ts calls libc, and tests itself at start.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/agent/posix\\.ts$" },
      to: { path: "^(node:)?ffi$" },
    },
    {
      name: "children-have-a-home",
      comment:
        "Child processes start in bootstrap/interception, bootstrap/host, agent/systemd.ts, agent/upgrade.ts, agent/commands and the lab.",
      severity: "error",
      from: {
        path: "^src/",
        pathNot: "^src/(lab/|bootstrap/(interception|host)/|agent/(systemd|upgrade)\\.ts$|agent/commands/)",
      },
      to: { path: "^(node:)?child_process$" },
    },
    {
      name: "kubernetes-client-in-the-cluster-bundle",
      comment: "Importing @kubernetes/client-node costs 84 MB: only the cluster side may, and hosts never load it.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/bootstrap/enroller/" },
      to: { path: "(^|/)@kubernetes/client-node(/|$)" },
    },
    {
      name: "no-cycles",
      comment: "Two files that need each other at run time are one idea in two places. Types may name each other.",
      severity: "error",
      from: { path: "^src/" },
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "resolvable",
      comment: "An import that leads nowhere.",
      severity: "error",
      from: { path: "^src/" },
      // ffi is younger than the checker's list of Node modules.
      to: { couldNotResolve: true, pathNot: "^ffi$" },
    },
  ],
  options: {
    // Type-only imports count: a type is knowledge of the other room too.
    tsPreCompilationDeps: true,
    parser: "tsc",
    doNotFollow: { path: "node_modules" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
      extensions: [".ts", ".js", ".mjs", ".cjs", ".json"],
    },
  },
};
