import type { destination } from "../../proto/index.ts";
import { durationMessage, parseDurationMs } from "./duration.ts";
import { methodMessage } from "./http-match.ts";
import type { Init } from "./message.ts";
import type { ProfileRequestMatch, ProfileResponseMatch, ServiceProfile } from "./objects.ts";

type ProfileMessage = Init<typeof destination.DestinationProfileSchema>;
type RequestMatch = Init<typeof destination.RequestMatchSchema>;
type ResponseMatch = Init<typeof destination.ResponseMatchSchema>;

/** What Linkerd allows where a profile says nothing: 20 % on top, and ten a second. */
export const DEFAULT_BUDGET: Init<typeof destination.RetryBudgetSchema> = {
  retryRatio: 0.2,
  minRetriesPerSecond: 10,
  ttl: durationMessage(10_000),
};

/** The parts of a profile that come from a ServiceProfile object; the defaults without one. */
export function profileOf(profile: ServiceProfile | undefined): ProfileMessage {
  if (profile === undefined) return { retryBudget: DEFAULT_BUDGET };
  const { routes = [], retryBudget, dstOverrides = [] } = profile.spec ?? {};
  const { name, namespace = "" } = profile.metadata;
  return {
    routes: routes.flatMap((route) => {
      const condition = route.condition && requestMatch(route.condition);
      if (condition === undefined) return [];
      const timeoutMs = route.timeout === undefined ? undefined : parseDurationMs(route.timeout);
      return {
        condition,
        responseClasses: (route.responseClasses ?? []).flatMap((responseClass) => {
          const match = responseClass.condition && responseMatch(responseClass.condition);
          return match === undefined ? [] : { condition: match, isFailure: responseClass.isFailure === true };
        }),
        metricsLabels: route.name === undefined ? {} : { route: route.name },
        isRetryable: route.isRetryable === true,
        ...(timeoutMs !== undefined && timeoutMs > 0 && { timeout: durationMessage(timeoutMs) }),
      };
    }),
    retryBudget:
      retryBudget === undefined
        ? DEFAULT_BUDGET
        : {
            retryRatio: retryBudget.retryRatio ?? 0,
            minRetriesPerSecond: retryBudget.minRetriesPerSecond ?? 0,
            ttl: durationMessage(parseDurationMs(retryBudget.ttl ?? "") ?? 10_000),
          },
    dstOverrides: dstOverrides.map(({ authority, weight }) => ({ authority, weight: overrideWeight(weight) })),
    profileRef: {
      kind: { case: "resource", value: { group: "linkerd.io", kind: "ServiceProfile", name, namespace } },
    },
  };
}

/** A Kubernetes quantity (`1`, `500m`) in units of a ten-thousandth. */
function overrideWeight(weight: number | string | undefined): number {
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(String(weight ?? 1));
  if (match === null) return 0;
  return Math.round(Number(match[1]) * (match[2] === "m" ? 10 : 10_000));
}

/** Several fields of one match mean all of them. */
function requestMatch(match: ProfileRequestMatch): RequestMatch | undefined {
  const parts: RequestMatch[] = [];
  if (match.all !== undefined) parts.push({ match: { case: "all", value: { matches: match.all.flatMap(listed) } } });
  if (match.any !== undefined) parts.push({ match: { case: "any", value: { matches: match.any.flatMap(listed) } } });
  const not = match.not && requestMatch(match.not);
  if (not !== undefined) parts.push({ match: { case: "not", value: not } });
  if (match.pathRegex !== undefined) parts.push({ match: { case: "path", value: { regex: match.pathRegex } } });
  if (match.method !== undefined) parts.push({ match: { case: "method", value: methodMessage(match.method) } });
  return parts.length > 1 ? { match: { case: "all", value: { matches: parts } } } : parts[0];
}

function listed(match: ProfileRequestMatch): readonly RequestMatch[] {
  const message = requestMatch(match);
  return message === undefined ? [] : [message];
}

function responseMatch(match: ProfileResponseMatch): ResponseMatch | undefined {
  const parts: ResponseMatch[] = [];
  const each = (item: ProfileResponseMatch): readonly ResponseMatch[] => {
    const message = responseMatch(item);
    return message === undefined ? [] : [message];
  };
  if (match.all !== undefined) parts.push({ match: { case: "all", value: { matches: match.all.flatMap(each) } } });
  if (match.any !== undefined) parts.push({ match: { case: "any", value: { matches: match.any.flatMap(each) } } });
  const not = match.not && responseMatch(match.not);
  if (not !== undefined) parts.push({ match: { case: "not", value: not } });
  if (match.status !== undefined) {
    const { min, max } = match.status;
    // One end alone names one status.
    parts.push({ match: { case: "status", value: { min: min ?? max ?? 0, max: max ?? min ?? 0 } } });
  }
  return parts.length > 1 ? { match: { case: "all", value: { matches: parts } } } : parts[0];
}
