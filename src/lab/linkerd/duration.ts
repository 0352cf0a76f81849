const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Reads a duration as the policy controller reads annotations and the fields of Gateway API's routes: one whole number
 * and one unit, or `0`. What Gateway API allows besides, such as `1m30s`, it does not.
 *
 * @returns milliseconds; undefined if the text is no duration.
 */
export function parsePolicyDurationMs(text: string): number | undefined {
  const match = /^(\d+)(ms|s|m|h|d)$|^0+$/.exec(text.trim());
  if (match === null) return undefined;
  const ms = Number(match[1] ?? 0) * (UNITS[match[2] ?? "ms"] as number);
  return Number.isSafeInteger(ms) ? ms : undefined;
}

/**
 * Reads a duration as the fields of Linkerd's own kinds have it: `300ms`, `10s`, `1m30s`, `0`.
 *
 * @returns milliseconds; undefined if the text is no duration.
 */
export function parseDurationMs(text: string): number | undefined {
  if (text === "0") return 0;
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(amount) * (UNITS[unit as string] as number);
  }
  return Number.isSafeInteger(Math.round(total)) ? Math.round(total) : undefined;
}

/** The message `google.protobuf.Duration`. */
export function durationMessage(ms: number): { readonly seconds: bigint; readonly nanos: number } {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}
