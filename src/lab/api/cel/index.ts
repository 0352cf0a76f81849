/**
 * The part of the Common Expression Language that the project's own manifests use, so that the lab judges by the very
 * text that a cluster would judge by. What it does not know is a syntax error, never a guess. Imports `re2js` only: a
 * library would put a 178 KB generated parser into the binary of every host. Start at `evaluate.ts`.
 */
export { CelError, type CelValue, evaluate, type Host } from "./evaluate.ts";
export { type Expression, parseExpression } from "./parse.ts";
