import { PROBE_DEFAULTS, type Probe, type ProbeKind, type WorkloadPort } from "../control/index.ts";
import { isPort } from "./terms.ts";

/** `http=8080`. @returns undefined if it is anything else. */
export function parseWorkloadPort(text: string): WorkloadPort | undefined {
  const match = /^([^=]+)=(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  return match?.[1] === undefined || !isPort(port) ? undefined : { name: match[1], port, protocol: "TCP" };
}

/**
 * `http:8080/healthz`, `tcp:5432`, `grpc:9000` or `grpc:9000/SERVICE`, `exec:PROGRAM ARGUMENT…`; timing as a Kubernetes
 * readiness probe by default.
 * @returns undefined if it is anything else.
 */
export function parseProbe(text: string): Probe | undefined {
  const check = parseCheck(text);
  return check && { check, ...PROBE_DEFAULTS };
}

function parseCheck(text: string): ProbeKind | undefined {
  const match = /^(http|tcp|grpc):(\d{1,5})(\/.*)?$/.exec(text);
  if (match === null) {
    const command = /^exec:(.+)$/.exec(text)?.[1]?.trim().split(/\s+/);
    return command && { kind: "exec", command };
  }
  const port = Number(match[2]);
  const rest = match[3];
  if (!isPort(port)) return undefined;
  switch (match[1]) {
    case "http":
      // What follows goes into a request line as it is.
      return rest === undefined || /^[\x21-\x7e]+$/.test(rest) ? { kind: "http", port, path: rest ?? "/" } : undefined;
    case "tcp":
      return rest === undefined ? { kind: "tcp", port } : undefined;
    default:
      // The length must fit into one byte of the health request.
      return (rest?.length ?? 1) <= 101 ? { kind: "grpc", port, service: rest?.slice(1) ?? "" } : undefined;
  }
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `30m`, `1h`, `7d`. @returns milliseconds; undefined if it is anything else or zero. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,6})([smhd])$/.exec(text);
  const ms = Number(match?.[1]) * (UNIT_MS[match?.[2] ?? ""] ?? Number.NaN);
  return ms > 0 ? ms : undefined;
}

/** `KEY=VALUE`. @returns undefined if there is no `=`. */
export function parseLabel(text: string): readonly [string, string] | undefined {
  const at = text.indexOf("=");
  return at < 1 ? undefined : [text.slice(0, at), text.slice(at + 1)];
}
