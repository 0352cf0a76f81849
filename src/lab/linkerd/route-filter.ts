import { type httpRoute, httpTypes } from "../../proto/index.ts";
import type { Init } from "./message.ts";
import type { HeaderModifier, RouteFilter } from "./objects.ts";

type ModifierMessage = Init<typeof httpRoute.RequestHeaderModifierSchema>;
type RedirectMessage = Init<typeof httpRoute.RequestRedirectSchema>;

/** The filters that a route object can carry, as one shape that fits every filter message with such members. */
export type FilterKind =
  | { readonly case: "requestHeaderModifier"; readonly value: ModifierMessage }
  | { readonly case: "responseHeaderModifier"; readonly value: ModifierMessage }
  | { readonly case: "redirect"; readonly value: RedirectMessage };

/**
 * Translates the filters of a rule.
 *
 * @returns undefined if one of them is of a kind that Linkerd does not know: it then drops the whole route.
 */
export function filterKinds(filters: readonly RouteFilter[] = []): readonly FilterKind[] | undefined {
  const kinds: FilterKind[] = [];
  for (const filter of filters) {
    const kind = filterKind(filter);
    if (kind === undefined) return undefined;
    kinds.push(kind);
  }
  return kinds;
}

function filterKind(filter: RouteFilter): FilterKind | undefined {
  switch (filter.type) {
    case "RequestHeaderModifier":
      return { case: "requestHeaderModifier", value: modifier(filter.requestHeaderModifier) };
    case "ResponseHeaderModifier":
      return { case: "responseHeaderModifier", value: modifier(filter.responseHeaderModifier) };
    case "RequestRedirect":
      return { case: "redirect", value: redirect(filter.requestRedirect ?? {}) };
    default:
      return undefined;
  }
}

function modifier({ add, set, remove }: HeaderModifier = {}): ModifierMessage {
  const headers = (list: HeaderModifier["add"] = []) => ({
    headers: list.map(({ name, value }) => ({ name, value: Buffer.from(value) })),
  });
  return { add: headers(add), set: headers(set), remove: [...(remove ?? [])] };
}

function redirect(to: NonNullable<RouteFilter["requestRedirect"]>): RedirectMessage {
  const { scheme, hostname, port, statusCode, path } = to;
  return {
    ...(scheme !== undefined && { scheme: schemeMessage(scheme) }),
    ...(path !== undefined && {
      path: {
        replace:
          path.type === "ReplaceFullPath"
            ? { case: "full", value: path.replaceFullPath ?? "/" }
            : { case: "prefix", value: path.replacePrefixMatch ?? "/" },
      },
    }),
    host: hostname ?? "",
    port: port ?? 0,
    // The default of the resource's own definition.
    status: statusCode ?? 302,
  };
}

function schemeMessage(scheme: string): Init<typeof httpTypes.SchemeSchema> {
  switch (scheme.toLowerCase()) {
    case "http":
      return { type: { case: "registered", value: httpTypes.Scheme_Registered.HTTP } };
    case "https":
      return { type: { case: "registered", value: httpTypes.Scheme_Registered.HTTPS } };
    default:
      return { type: { case: "unregistered", value: scheme } };
  }
}
