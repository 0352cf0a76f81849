import { KEYS } from "../src/agent/config.ts";

/** The configuration file as it is installed: every key with its default and what it does, all commented out. */
export function conffile(): string {
  const lines = [
    "# Configuration of mesh-agent. Every key stands here with its default, commented out; most hosts need none of them.",
    "# Durations are written as 500ms, 10s, 5m, 24h; lists separated by commas or as YAML lists.",
    "# `mesh-agent config check` reads this file and names what is wrong; `systemctl reload mesh-agent` applies it.",
  ];
  // By section, wherever the table names its keys: YAML takes no section twice.
  const section = (key: string) => key.slice(0, key.indexOf("."));
  const sections = [...new Set(Object.keys(KEYS).map(section))];
  const entries = Object.entries(KEYS).sort(([a], [b]) => sections.indexOf(section(a)) - sections.indexOf(section(b)));
  let before = "";
  for (const [key, field] of entries) {
    const dot = key.indexOf(".");
    const name = section(key);
    if (name !== before) {
      before = name;
      lines.push("", `${name}:`);
    }
    lines.push(
      `  # ${field.doc} (${field.expects})`,
      `  # ${key.slice(dot + 1)}: ${field.initial === "" ? '""' : field.initial}`,
    );
  }
  return `${lines.join("\n")}\n`;
}
