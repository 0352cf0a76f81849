import { KEYS } from "../src/agent/config.ts";

/** The manual page of the configuration file, mesh-agent.yaml(5): every key with unit and default, made from the table. */
export function configurationPage(): string {
  const lines = [
    '.TH MESH-AGENT.YAML 5 "" "mesh-agent" "File Formats"',
    ".SH NAME",
    "mesh-agent.yaml \\- configuration of mesh-agent, /etc/mesh-agent/config.yaml",
    ".SH DESCRIPTION",
    "YAML. A dot in the names below is a level:",
    ".B inbound.port",
    "is",
    ".B port",
    "under",
    ".BR inbound .",
    "Durations are written as 500ms, 10s, 5m, 24h, 7d; lists as YAML lists or separated by commas. A key that is not listed",
    "here is an error, and so is one that stands twice.",
    ".PP",
    "Most hosts need no key at all: what a host has to know comes from the cluster.",
    ".SH CHECKING AND APPLYING",
    ".B mesh-agent config check",
    "names what is wrong with file, line, key and what was expected, and ends with 64. It starts nothing and needs no rights",
    "but to read the file.",
    ".PP",
    ".B systemctl reload mesh-agent",
    "applies the file: a new process reads it and takes over, the old one finishes what it carries. If the file has a",
    "mistake, reload says so and the old process stays with what it read before.",
    ".B systemctl restart mesh-agent",
    "applies it too; with a mistake the unit then fails with status 64.",
    "Nothing is read again while a process runs.",
    ".PP",
    "The addresses of the listening sockets are systemd's. Whoever changes",
    ".BR inbound.port ,",
    ".B outbound.port",
    "or",
    ".B admin.address",
    "changes",
    ".B ListenStream=",
    "of the socket unit as well, with",
    '.BR "systemctl edit" .',
    ".SH KEYS",
  ];
  for (const [key, { doc, expects, initial }] of Object.entries(KEYS)) {
    lines.push(".TP", `.B ${roff(key)}`, sentence(doc), sentence(capital(expects)));
    lines.push(initial === undefined || initial === "" ? "No default." : `Default: ${roff(initial)}.`);
  }
  lines.push(".SH SEE ALSO", ".BR mesh-agent (8)");
  return `${lines.join("\n")}\n`;
}

function sentence(text: string): string {
  return roff(text.endsWith(".") ? text : `${text}.`);
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Text as roff reads it: a dash is a minus, a back-quoted word is bold, no line starts with a command. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll(/`([^`]*)`/g, "\\fB$1\\fR")
    .replace(/^([.'])/, "\\&$1");
}
