/** Makes docs/reference.md from the tables in the code: `npm run reference`. A unit test says when that is due. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { KEYS } from "../src/agent/config.ts";
import { EXIT } from "../src/agent/exit.ts";
import { FAMILIES } from "../src/agent/metrics/index.ts";
import { FAILURES } from "../src/bootstrap/control/index.ts";
import { CHECKS } from "../src/bootstrap/enroller/check.ts";
import { REASONS } from "../src/proxy/core/errors.ts";

const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "done",
  failure: "a bug: the message says where",
  usage: "wrong arguments",
  configuration: "the configuration, or agent and enroller do not fit",
  joinString: "the join string cannot be used",
  unreachable: "somebody does not answer",
  interception: "the interception rules could not be brought to the plan",
  tryAgain: "not now; the same command may work later",
  notPermitted: "refused",
};

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string =>
    `| ${cells.map((cell) => `${cell}`.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

const code = (text: string | number): string => `\`${text}\``;

/** The whole page. */
export function reference(): string {
  const own = FAMILIES.filter((family) => family.name.startsWith("mesh_agent_"));
  const linkerds = FAMILIES.filter((family) => !own.includes(family));
  const metrics = (families: typeof FAMILIES): string =>
    table(
      ["name", "type", "meaning"],
      families.map(({ name, type, help }) => [code(name), type, help]),
    );
  return `${[
    "# Reference",
    "Made from the code by `npm run reference`; do not edit.",
    "## Configuration",
    "`/etc/mesh-agent/config.yaml`. A dot is a level: `inbound.port` is `port` under `inbound`. Durations are written as `500ms`, `10s`, `5m`, `24h`.",
    table(
      ["key", "default", "value", "meaning"],
      Object.entries(KEYS).map(([key, { initial, expects, doc }]) => [
        code(key),
        initial ? code(initial) : "",
        expects,
        doc,
      ]),
    ),
    "## Exit codes",
    table(
      ["code", "meaning"],
      Object.entries(EXIT).map(([name, exit]) => [exit, EXIT_MEANINGS[name as keyof typeof EXIT]]),
    ),
    "## Errors of joining, renewing and attaching",
    table(
      ["code", "exit", "what to do"],
      Object.entries(FAILURES).map(([name, { exit, remedy }]) => [code(name), exit, remedy]),
    ),
    "## Steps of `cluster check`",
    table(
      ["code", "makes sure that"],
      Object.entries(CHECKS).map(([name, title]) => [code(name), title]),
    ),
    "## Errors of requests",
    "Metric label, log field and, for meshed peers, the text in `l5d-proxy-error`.",
    table(
      ["reason", "HTTP status", "gRPC status", "closes the connection", "text"],
      Object.entries(REASONS).map(([reason, { http, grpc, closes, text }]) => [
        code(reason),
        http,
        grpc,
        closes ? "yes" : "no",
        text,
      ]),
    ),
    "## Own metrics",
    metrics(own),
    "## Linkerd's metrics",
    "Labels and buckets are linkerd2-proxy's.",
    metrics(linkerds),
  ].join("\n\n")}\n`;
}

if (import.meta.main) writeFileSync(join(import.meta.dirname, "../docs/reference.md"), reference());
