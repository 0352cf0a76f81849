import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HERE } from "./release.ts";

/** A maintainer script of a format, with the steps that all formats share in the place of its line `#STEPS#`. */
export function scriptlet(format: "deb" | "rpm", name: string): string {
  const script = readFileSync(join(HERE, format, name), "utf8");
  return script.replace("#STEPS#\n", () => `${readFileSync(join(HERE, "host/steps.sh"), "utf8")}\n`);
}
