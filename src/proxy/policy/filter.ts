import type { Rng } from "../core/clock.ts";
import { type HeaderList, headerName } from "../core/header.ts";
import type { RequestHead } from "../core/http.ts";
import type { Filter, HeaderChanges, HeaderValue, Ratio, RedirectFilter, RouteMatch } from "./model.ts";

/** Why a filter ended a request. */
export type FilterStop =
  | { readonly kind: "redirect"; readonly status: number; readonly location: string }
  | { readonly kind: "http-failure"; readonly status: number; readonly message: string }
  | { readonly kind: "grpc-failure"; readonly code: number; readonly message: string }
  | { readonly kind: "internal-error"; readonly message: string };

/**
 * Runs the filters of a route or backend on a request, in list order; header changes are made in place.
 *
 * @param match - What the rule matched by, for redirects that replace the matched prefix.
 * @returns undefined to go on, else what to answer instead: the first that stops ends it.
 * @see outbound.md §3.5, inbound.md §6.5
 */
export function filterRequest(
  filters: readonly Filter[],
  head: RequestHead,
  match: RouteMatch | undefined,
  rng: Rng,
): FilterStop | undefined {
  for (const filter of filters) {
    switch (filter.kind) {
      case "request-headers":
        changeHeaders(filter.changes, head.headers);
        break;
      case "response-headers":
        break;
      case "http-failure":
        if (strikes(filter.ratio, rng)) return { kind: "http-failure", status: filter.status, message: filter.message };
        break;
      case "grpc-failure":
        if (strikes(filter.ratio, rng)) return { kind: "grpc-failure", code: filter.code, message: filter.message };
        break;
      case "redirect": {
        const stop = redirect(filter, head, match);
        if (stop !== undefined) return stop;
        break;
      }
      case "internal-error":
        return { kind: "internal-error", message: filter.message };
      default:
        filter satisfies never;
    }
  }
  return undefined;
}

/** Runs the filters that change a response's headers, in place. Not for answers of our own. */
export function filterResponse(filters: readonly Filter[], headers: HeaderList): void {
  for (const filter of filters) if (filter.kind === "response-headers") changeHeaders(filter.changes, headers);
}

/** Adds, then sets, then removes. */
export function changeHeaders(changes: HeaderChanges, headers: HeaderList): void {
  for (const { name, value } of changes.add) {
    const known = headerName(name);
    if (known !== undefined) headers.add(known, value);
  }
  for (const header of changes.set) setHeader(header, headers);
  for (const lower of changes.remove) headers.remove(lower);
}

function setHeader({ name, value }: HeaderValue, headers: HeaderList): void {
  const known = headerName(name);
  if (known !== undefined) headers.set(known, value);
}

function strikes(ratio: Ratio, rng: Rng): boolean {
  return ratio.numerator >= ratio.denominator || rng() * ratio.denominator < ratio.numerator;
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = { http: 80, https: 443 };

function redirect(filter: RedirectFilter, head: RequestHead, match: RouteMatch | undefined): FilterStop | undefined {
  const scheme = filter.scheme ?? (head.scheme || "http");
  const authority = redirectAuthority(filter, scheme, head.authority);
  const path = redirectPath(filter, head.path, match);
  if (authority === undefined || path === undefined) return { kind: "internal-error", message: "invalid redirect" };
  const location = `${scheme}://${authority}${path}`;
  // Redirecting to where the request already is would never end.
  if (location === `${head.scheme || "http"}://${head.authority}${head.path}`) return undefined;
  return { kind: "redirect", status: filter.status, location };
}

function redirectAuthority(filter: RedirectFilter, scheme: string, authority: string | undefined): string | undefined {
  if (filter.host !== undefined && filter.port !== undefined) return `${filter.host}:${filter.port}`;
  if (filter.host === undefined && filter.port === undefined) return authority;
  const match = /^(.*?)(?::(\d+))?$/.exec(authority ?? "");
  const host = filter.host ?? match?.[1];
  if (host === undefined || host === "") return undefined;
  const port = filter.port ?? (match?.[2] === undefined ? undefined : Number(match[2]));
  return port === undefined || port === DEFAULT_PORTS[scheme] ? host : `${host}:${port}`;
}

function redirectPath(filter: RedirectFilter, target: string, match: RouteMatch | undefined): string | undefined {
  if (filter.path === undefined) return target;
  if (filter.path.kind === "full") return filter.path.path;
  const matched = match?.kind === "http" ? match.path : undefined;
  if (match?.kind !== "http" || (matched !== undefined && matched.kind !== "prefix")) return undefined;
  const mark = target.indexOf("?");
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? "" : target.slice(mark);
  const rest = path.slice(matched?.prefix.length ?? 0);
  const { prefix } = filter.path;
  // Whole segments on both sides: exactly one slash where they meet.
  const joined = rest === "" ? prefix : `${prefix.replace(/\/+$/, "")}${rest}`;
  return `${joined === "" ? "/" : joined}${query}`;
}
