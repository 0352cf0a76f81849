import { invalidArgument } from "./failure.ts";

/** A Service's name under the cluster domain. */
export interface ServiceName {
  readonly namespace: string;
  readonly name: string;
  /** One endpoint of a headless Service, from `HOST.NAME.NS.svc.CD`. */
  readonly hostname: string | undefined;
}

/** @returns undefined if the host is not `[HOST.]NAME.NS.svc.CD`; a trailing dot is not accepted. */
export function parseServiceName(host: string, clusterDomain: string): ServiceName | undefined {
  const suffix = `.svc.${clusterDomain}`;
  if (!host.endsWith(suffix)) return undefined;
  const labels = host.slice(0, -suffix.length).split(".");
  if (labels.includes("")) return undefined;
  const [a, b, c, ...more] = labels;
  if (a === undefined || b === undefined || more.length > 0) return undefined;
  return c === undefined ? { name: a, namespace: b, hostname: undefined } : { hostname: a, name: b, namespace: c };
}

/** Splits `host[:port]`, port 80 unless told. @returns undefined for a port that is none. */
export function splitAuthority(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const port = match[3] === undefined ? 80 : Number(match[3]);
  return port < 1 || port > 65535 ? undefined : { host: match[1] ?? match[2] ?? "", port };
}

/**
 * As {@link splitAuthority}, as the policy controller does it: a port that is none counts as 80, user information and a
 * trailing dot are passed over.
 *
 * @throws CallFailure InvalidArgument for what is no authority.
 */
export function splitPolicyAuthority(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:[^@]*@)?([A-Za-z0-9._~!$&'()*+,;=%-]+)(?::([^@:]*))?$/.exec(text);
  const host = match?.[1];
  if (host === undefined) throw invalidArgument("invalid authority");
  const port = /^\d+$/.test(match?.[2] ?? "") ? Number(match?.[2]) : 80;
  return { host, port: port < 1 || port > 65535 ? 80 : port };
}
