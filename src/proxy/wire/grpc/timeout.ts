import type { Millis } from "../../core/clock.ts";

const UNITS: Readonly<Record<string, Millis>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 };
// At most eight digits, by gRPC's grammar.
const TIMEOUT = /^([0-9]{1,8})([HMSmun])$/;
const MAX_VALUE = 99_999_999;

/**
 * Reads a `grpc-timeout` value.
 * @returns Milliseconds, with fractions; undefined if it is malformed.
 * @see gRPC over HTTP/2, "Timeout"
 */
export function parseGrpcTimeout(text: string): Millis | undefined {
  const match = TIMEOUT.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * (UNITS[match[2] as string] as Millis);
}

/** Formats a deadline as `grpc-timeout`, in the finest unit that holds it. */
export function formatGrpcTimeout(ms: Millis): string {
  const left = Math.max(0, ms);
  for (const unit of ["n", "u", "m", "S", "M"]) {
    const value = Math.floor(left / (UNITS[unit] as Millis));
    if (value <= MAX_VALUE) return `${value}${unit}`;
  }
  return `${Math.min(MAX_VALUE, Math.floor(left / (UNITS["H"] as Millis)))}H`;
}
