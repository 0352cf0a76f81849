import type { destination } from "../../proto/index.ts";
import { isDnsName } from "../core/authority.ts";
import type {
  Profile,
  ProfileCondition,
  ProfileRoute,
  ProfileTarget,
  ResponseClass,
  ResponseCondition,
  RetryBudgetConfig,
} from "../policy/index.ts";
import { decodeDuration, decodeTimeout } from "./duration.ts";
import { decodeEndpoint, destinationPath } from "./endpoints.ts";
import { InvalidMessage } from "./invalid.ts";
import { optionalRef } from "./ref.ts";
import { decodeMethod, decodePattern } from "./route.ts";

/**
 * Reads what `GetProfile` sent. A profile is never invalid as a whole: what makes no sense is left out.
 * @see outbound.md §9.1, §9.2
 */
export function decodeProfile(message: destination.DestinationProfile): Profile {
  return {
    opaque: message.opaqueProtocol,
    logicalName: decodeName(message.fullyQualifiedName),
    endpoint: message.endpoint && decodeEndpoint(message.endpoint, {}),
    routes: message.routes.flatMap(decodeRoute),
    targets: message.dstOverrides.flatMap(decodeTarget),
    retryBudget: message.retryBudget && decodeBudget(message.retryBudget),
  };
}

function decodeName(name: string): string | undefined {
  const bare = name.endsWith(".") ? name.slice(0, -1) : name;
  return isDnsName(bare) ? bare : undefined;
}

function decodeRoute(message: destination.Route): ProfileRoute[] {
  const condition = message.condition && decodeCondition(message.condition);
  if (condition === undefined) return [];
  return [
    {
      condition,
      classes: message.responseClasses.flatMap(decodeClass),
      labels: { ...message.metricsLabels },
      retryable: message.isRetryable,
      timeoutMs: orUndefined(() => decodeTimeout(message.timeout, "timeout")),
    },
  ];
}

function decodeTarget(message: destination.WeightedDst): ProfileTarget[] {
  const path = destinationPath(message.authority);
  if (message.weight === 0 || path === undefined) return [];
  return [{ path, weight: message.weight, ref: optionalRef(message.backendRef) }];
}

function decodeBudget(message: destination.RetryBudget): RetryBudgetConfig | undefined {
  const ttlMs = orUndefined(() => decodeDuration(message.ttl, "ttl"));
  const { retryRatio, minRetriesPerSecond } = message;
  if (ttlMs === undefined || ttlMs < 1_000 || ttlMs > 60_000) return undefined;
  if (!(retryRatio >= 0 && retryRatio <= 1_000) || minRetriesPerSecond > 2_147_483_647) return undefined;
  return { ratio: retryRatio, minRetriesPerSecond, ttlMs };
}

/** Members of a list that make no sense are silently left out: an empty `all` then holds always. */
function decodeCondition(message: destination.RequestMatch): ProfileCondition | undefined {
  const { match } = message;
  switch (match.case) {
    case "all":
    case "any":
      return { kind: match.case, of: match.value.matches.flatMap((inner) => decodeCondition(inner) ?? []) };
    case "not": {
      const inner = decodeCondition(match.value);
      return inner && { kind: "not", of: inner };
    }
    case "path":
      return orUndefined(() => ({ kind: "path", pattern: decodePattern(pathExpression(match.value.regex)) }));
    case "method":
      return orUndefined(() => ({ kind: "method", method: decodeMethod(match.value) }));
    default:
      return undefined;
  }
}

/**
 * Profiles search with `^` and `$` put where they are missing, which for `a|b` anchors each alternative on one side
 * only. Our patterns must span the text, so the rest of it is added around what is searched for.
 */
function pathExpression(regex: string): string {
  const trimmed = regex.trim();
  const anchored = `${trimmed.startsWith("^") ? "" : "^"}${trimmed}${trimmed.endsWith("$") ? "" : "$"}`;
  return `(?s:.*?)(?:${anchored})(?s:.*)`;
}

function decodeClass(message: destination.ResponseClass): ResponseClass[] {
  const condition = message.condition && decodeResponse(message.condition);
  return condition === undefined ? [] : [{ condition, failure: message.isFailure }];
}

function decodeResponse(message: destination.ResponseMatch): ResponseCondition | undefined {
  const { match } = message;
  switch (match.case) {
    case "all":
    case "any": {
      const of = match.value.matches.flatMap((inner) => decodeResponse(inner) ?? []);
      return of.length === 0 ? undefined : { kind: match.case, of };
    }
    case "not": {
      const inner = decodeResponse(match.value);
      return inner && { kind: "not", of: inner };
    }
    case "status": {
      const { min, max } = match.value;
      const legal = min >= 100 && min <= 999 && max >= 100 && max <= 999;
      return legal ? { kind: "status", min, max } : undefined;
    }
    default:
      return undefined;
  }
}

function orUndefined<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (error instanceof InvalidMessage) return undefined;
    throw error;
  }
}
