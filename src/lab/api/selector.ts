import { type JsonMap, mapAt, valueAt } from "./json.ts";
import { badRequest } from "./status.ts";

/** Whether an object is selected. */
export type Selector = (object: JsonMap) => boolean;

type Requirement = (labels: JsonMap) => boolean;

const TERM = /^(!?)\s*([A-Za-z0-9._/-]+)\s*(?:(=|==|!=|>|<)\s*([A-Za-z0-9._-]*)|\s(in|notin)\s*\(([^()]*)\))?$/;

/**
 * Reads a label selector in the form that a URL carries: `a=b,c!=d,e in (f,g),!h`.
 *
 * @throws LabError 400 if it does not parse.
 */
export function parseLabelSelector(text: string): Selector {
  const requirements = splitTerms(text).map(parseRequirement);
  return (object) => {
    const labels = mapAt(mapAt(object, "metadata"), "labels");
    return requirements.every((requirement) => requirement(labels));
  };
}

// Commas inside parentheses separate values, all others separate requirements.
function splitTerms(text: string): string[] {
  return text
    .split(/,(?![^(]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== "");
}

function parseRequirement(term: string): Requirement {
  const match = TERM.exec(term);
  if (match === null) throw badRequest(`unable to parse requirement: ${JSON.stringify(term)}`);
  const [, not, key = "", operator, value = "", set, list = ""] = match;
  if (set !== undefined) {
    const values = list.split(",").map((item) => item.trim());
    const within = (labels: JsonMap) => Object.hasOwn(labels, key) && values.includes(String(labels[key]));
    return set === "in" ? within : (labels) => !within(labels);
  }
  switch (operator) {
    case undefined:
      return not === "!" ? (labels) => !Object.hasOwn(labels, key) : (labels) => Object.hasOwn(labels, key);
    case "!=":
      return (labels) => labels[key] !== value;
    case ">":
      return (labels) => Object.hasOwn(labels, key) && Number(labels[key]) > Number(value);
    case "<":
      return (labels) => Object.hasOwn(labels, key) && Number(labels[key]) < Number(value);
    default:
      return (labels) => labels[key] === value;
  }
}

/**
 * Reads a field selector: `metadata.name=a,status.phase!=Running`.
 *
 * @param custom - Of a custom resource, only name and namespace can be selected.
 * @throws LabError 400 if it does not parse or names a field that cannot be selected.
 */
export function parseFieldSelector(text: string, custom: boolean): Selector {
  const terms = splitTerms(text).map((term) => {
    const match = /^([A-Za-z0-9.]+)(==|=|!=)(.*)$/.exec(term);
    if (match === null) throw badRequest(`invalid selector: ${JSON.stringify(term)}`);
    const [, path = "", operator, value = ""] = match;
    if (custom && path !== "metadata.name" && path !== "metadata.namespace") {
      throw badRequest(`field label not supported: ${path}`);
    }
    return { path, negated: operator === "!=", value };
  });
  return (object) => terms.every((term) => (String(valueAt(object, term.path) ?? "") === term.value) !== term.negated);
}

/** What matches if both do; undefined stands for everything. */
export function both(a: Selector | undefined, b: Selector | undefined): Selector | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return (object) => a(object) && b(object);
}
