import type { Selector } from "./objects.ts";

/** Whether labels satisfy every label and every expression of a selector; an empty selector matches everything. */
export function selects(selector: Selector, labels: Readonly<Record<string, string>> | undefined): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labels?.[key] !== value) return false;
  }
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const label = labels?.[key];
    switch (operator) {
      case "In":
        if (label === undefined || !values.includes(label)) return false;
        break;
      case "NotIn":
        if (label !== undefined && values.includes(label)) return false;
        break;
      case "Exists":
        if (label === undefined) return false;
        break;
      case "DoesNotExist":
        if (label !== undefined) return false;
        break;
      default:
        // An operator that does not exist selects nothing, as an API server would not have let it in.
        operator satisfies never;
        return false;
    }
  }
  return true;
}
