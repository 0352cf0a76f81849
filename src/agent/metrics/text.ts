import type { Labels } from "../../proxy/core/metrics.ts";
import type { Family } from "./families.ts";

/** A series ready to be printed. */
export interface Sample {
  /** As {@link formatLabels} gives them. */
  readonly labels: string;
  /** One value; for a histogram one count per bucket, the last for +Inf, each on its own, and then the sum. */
  readonly values: ArrayLike<number>;
}

/**
 * Labels as they stand between the braces. Backslash, quote and newline are escaped, which linkerd2-proxy leaves out:
 * a name that a peer chose must not write lines of our page.
 */
export function formatLabels(labels: Labels): string {
  let text = "";
  for (const name in labels) text += `${text === "" ? "" : ","}${name}="${escapeValue(labels[name] as string)}"`;
  return text;
}

function escapeValue(value: string): string {
  return /[\\"\n]/.test(value) ? value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n") : value;
}

/** A number as Rust prints a float: `1.0`, `0.025`. */
function formatFloat(value: number): string {
  return Number.isInteger(value) ? `${value}.0` : `${value}`;
}

/** One family with its HELP and TYPE lines, or nothing when it has no series (both encoders leave it out then). */
export function formatFamily(family: Family, samples: readonly Sample[]): string {
  if (samples.length === 0) return "";
  return family.encoder === "legacy" ? formatLegacy(family, samples) : formatRegistry(family, samples);
}

/** `# TYPE` names the sample; `le` is the last label, in its shortest form; counts come before the sum. */
function formatLegacy({ name, type, help, buckets }: Family, samples: readonly Sample[]): string {
  let text = `# HELP ${name} ${help}.\n# TYPE ${name} ${type}\n`;
  for (const { labels, values } of samples) {
    if (type !== "histogram") {
      text += `${name}${braces(labels)} ${values[0]}\n`;
      continue;
    }
    const before = labels === "" ? "" : `${labels},`;
    let count = 0;
    for (let i = 0; i <= buckets.length; i++) {
      count += values[i] as number;
      text += `${name}_bucket{${before}le="${i < buckets.length ? buckets[i] : "+Inf"}"} ${count}\n`;
    }
    text += `${name}_count${braces(labels)} ${count}\n${name}_sum${braces(labels)} ${values[buckets.length + 1]}\n`;
  }
  return text;
}

/** `# TYPE` names the family without `_total`; `le` is the first label, as a float; the sum comes first. */
function formatRegistry({ name, type, help, buckets, unit, float }: Family, samples: readonly Sample[]): string {
  const stem = type === "counter" ? name.replace(/_total$/, "") : name;
  let text = `# HELP ${stem} ${help}.\n# TYPE ${stem} ${type}\n`;
  if (unit !== undefined) text += `# UNIT ${stem} ${unit}\n`;
  for (const { labels, values } of samples) {
    if (type !== "histogram") {
      const value = values[0] as number;
      text += `${name}${braces(labels)} ${float ? formatFloat(value) : value}\n`;
      continue;
    }
    let count = 0;
    for (let i = 0; i <= buckets.length; i++) count += values[i] as number;
    text += `${name}_sum${braces(labels)} ${formatFloat(values[buckets.length + 1] as number)}\n`;
    text += `${name}_count${braces(labels)} ${count}\n`;
    const after = labels === "" ? "" : `,${labels}`;
    count = 0;
    for (let i = 0; i <= buckets.length; i++) {
      count += values[i] as number;
      text += `${name}_bucket{le="${i < buckets.length ? formatFloat(buckets[i] as number) : "+Inf"}"${after}} ${count}\n`;
    }
  }
  return text;
}

function braces(labels: string): string {
  return labels === "" ? "" : `{${labels}}`;
}
