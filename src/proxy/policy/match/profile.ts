import type { ProfileCondition, ResponseClass, ResponseCondition } from "../model.ts";
import type { RequestView } from "./request.ts";

/** Whether a ServiceProfile route's condition holds. An empty `all` holds always, an empty `any` never. */
export function matchProfile(condition: ProfileCondition, request: RequestView): boolean {
  switch (condition.kind) {
    case "all":
      for (const inner of condition.of) if (!matchProfile(inner, request)) return false;
      return true;
    case "any":
      for (const inner of condition.of) if (matchProfile(inner, request)) return true;
      return false;
    case "not":
      return !matchProfile(condition.of, request);
    case "path":
      return condition.pattern.matches?.(request.path) ?? false;
    case "method":
      return request.method === condition.method;
    default:
      return condition satisfies never;
  }
}

/** The verdict of the first class that holds for a status: true = failure; undefined = no class says anything. */
export function matchClasses(classes: readonly ResponseClass[], status: number): boolean | undefined {
  for (const { condition, failure } of classes) if (matchResponse(condition, status)) return failure;
  return undefined;
}

function matchResponse(condition: ResponseCondition, status: number): boolean {
  switch (condition.kind) {
    case "all":
      for (const inner of condition.of) if (!matchResponse(inner, status)) return false;
      return true;
    case "any":
      for (const inner of condition.of) if (matchResponse(inner, status)) return true;
      return false;
    case "not":
      return !matchResponse(condition.of, status);
    case "status":
      return status >= condition.min && status <= condition.max;
    default:
      return condition satisfies never;
  }
}
