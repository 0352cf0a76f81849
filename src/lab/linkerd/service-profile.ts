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

/** A ServiceProfile that Linkerd cannot translate: it then says nothing at all, and clients wait in vain. */
export class BadProfile extends Error {
  override readonly name = "BadProfile";
}

/**
 * The parts of a profile that come from a ServiceProfile object; the defaults without one, of an object without a name.
 *
 * @param port - For overrides that name none.
 * @throws BadProfile
 */
export function profileOf(profile: ServiceProfile | undefined, port: number): ProfileMessage {
  if (profile === undefined) return { retryBudget: DEFAULT_BUDGET, profileRef: profileRef("", "") };
  const { routes = [], retryBudget, dstOverrides = [] } = profile.spec ?? {};
  const { name, namespace = "" } = profile.metadata;
  return {
    routes: routes.map((route) => {
      // Of all that can be wrong, only this is forgiven.
      const timeoutMs = route.timeout === undefined ? undefined : parseDurationMs(route.timeout);
      return {
        condition: requestMatch(route.condition),
        responseClasses: (route.responseClasses ?? []).map(({ condition, isFailure }) => ({
          condition: responseMatch(condition),
          isFailure: isFailure === true,
        })),
        metricsLabels: { route: route.name ?? "" },
        isRetryable: route.isRetryable === true,
        ...(timeoutMs !== undefined && timeoutMs > 0 && { timeout: durationMessage(timeoutMs) }),
      };
    }),
    retryBudget: retryBudget === undefined ? DEFAULT_BUDGET : budget(retryBudget),
    dstOverrides: dstOverrides.map(({ authority, weight }) => ({
      authority: authority.includes(":") ? authority : `${authority}:${port}`,
      weight: overrideWeight(weight),
    })),
    profileRef: profileRef(name, namespace),
  };
}

type RetryBudget = NonNullable<NonNullable<ServiceProfile["spec"]>["retryBudget"]>;

function budget({ retryRatio = 0, minRetriesPerSecond = 0, ttl = "" }: RetryBudget): typeof DEFAULT_BUDGET {
  const ttlMs = parseDurationMs(ttl);
  if (ttlMs === undefined) throw new BadProfile(`not a duration: ${ttl}`);
  return { retryRatio, minRetriesPerSecond, ttl: durationMessage(ttlMs) };
}

/** Without the kind, which the controller's client drops. */
function profileRef(name: string, namespace: string): ProfileMessage["profileRef"] {
  return { kind: { case: "resource", value: { group: "linkerd.io", name, namespace } } };
}

/** A Kubernetes quantity (`1`, `500m`) in units of a ten-thousandth. */
function overrideWeight(weight: number | string | undefined): number {
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(String(weight ?? 1));
  if (match === null) return 0;
  return Math.round(Number(match[1]) * (match[2] === "m" ? 10 : 10_000));
}

/** Several fields of one match mean all of them. */
function requestMatch(match: ProfileRequestMatch | undefined): RequestMatch {
  const parts: RequestMatch[] = [];
  if (match?.all !== undefined) parts.push({ match: { case: "all", value: { matches: match.all.map(requestMatch) } } });
  if (match?.any !== undefined) parts.push({ match: { case: "any", value: { matches: match.any.map(requestMatch) } } });
  if (match?.method !== undefined) parts.push({ match: { case: "method", value: methodMessage(match.method) } });
  if (match?.not !== undefined) parts.push({ match: { case: "not", value: requestMatch(match.not) } });
  if (match?.pathRegex !== undefined) parts.push({ match: { case: "path", value: { regex: match.pathRegex } } });
  const [first, ...others] = parts;
  if (first === undefined) throw new BadProfile("a request match must have a field set");
  return others.length > 0 ? { match: { case: "all", value: { matches: parts } } } : first;
}

function responseMatch(match: ProfileResponseMatch | undefined): ResponseMatch {
  const parts: ResponseMatch[] = [];
  if (match?.all !== undefined) {
    parts.push({ match: { case: "all", value: { matches: match.all.map(responseMatch) } } });
  }
  if (match?.any !== undefined) {
    parts.push({ match: { case: "any", value: { matches: match.any.map(responseMatch) } } });
  }
  if (match?.status !== undefined) {
    const { min = 0, max = 0 } = match.status;
    parts.push({ match: { case: "status", value: { min, max } } });
  }
  if (match?.not !== undefined) parts.push({ match: { case: "not", value: responseMatch(match.not) } });
  const [first, ...others] = parts;
  if (first === undefined) throw new BadProfile("a response match must have a field set");
  return others.length > 0 ? { match: { case: "all", value: { matches: parts } } } : first;
}
