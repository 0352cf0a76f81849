import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { BundledPackage } from "../scripts/bundle.ts";
import { nodeBase, nodeVersion } from "../scripts/node-base.ts";
import { ROOT } from "./release.ts";

/** SPDX expression that a package declares. */
export function licenceOf({ name, folder }: BundledPackage): string {
  const { license } = JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8")) as { license?: unknown };
  if (typeof license !== "string") throw new Error(`${name} declares no licence`);
  return license;
}

/** What a package as a whole is under, without repetitions, ours first: SPDX expressions, all of which hold. */
export function licences(packages: readonly BundledPackage[]): readonly string[] {
  const others = packages.map(licenceOf).flatMap((expression) => {
    // A choice stays whole.
    if (expression.includes(" OR ")) return [`(${bare(expression)})`];
    return bare(expression).split(" AND ");
  });
  return [...new Set(["Apache-2.0", "MIT", ...others.sort()])];
}

function bare(expression: string): string {
  return expression.replace(/^\((.*)\)$/, "$1");
}

/** The licence texts of everything that is inside the binary and not ours, as their authors ask for. */
export function notices(packages: readonly BundledPackage[]): string {
  const list = packages.map((entry) => `  ${entry.name} ${entry.version}: ${licenceOf(entry)}`);
  const parts = packages.map((entry) => section(`${entry.name} ${entry.version}`, licenceTexts(entry)));
  // The same text in the packages of all architectures.
  const node = readFileSync(join(nodeBase("x64"), "LICENSE"), "utf8");
  return `mesh-agent contains the works of others. Their licences follow.

${list.join("\n")}
  Node.js ${nodeVersion()} and what it contains: MIT and others

${parts.join("\n")}
${section(`Node.js ${nodeVersion()}`, node)}`;
}

function licenceTexts(entry: BundledPackage): string {
  const folder = join(ROOT, entry.folder);
  const files = readdirSync(folder)
    .filter((file) => /^(?:licen[cs]e|copying|notice)/i.test(file))
    .sort();
  if (files.length === 0) return `Licence: ${licenceOf(entry)}; the package brings no text of its own.`;
  return files.map((file) => readFileSync(join(folder, file), "utf8").trim()).join("\n\n");
}

function section(title: string, text: string): string {
  return `${"=".repeat(78)}\n${title}\n${"=".repeat(78)}\n\n${text.trim()}\n`;
}
