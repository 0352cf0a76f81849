import { RE2JS } from "re2js";
import type { Expression } from "./parse.ts";

/** What the program around brings in beside data: it answers method calls. */
export interface Host {
  call(method: string, args: readonly CelValue[]): CelValue;
}

export type CelValue =
  | string
  | number
  | boolean
  | null
  | readonly CelValue[]
  | { readonly [key: string]: CelValue }
  | Host;

/** An expression that has no value: a missing field, a wrong type. */
export class CelError extends Error {
  override readonly name = "CelError";
}

/** Variables by name; a function is asked when the name is used, once. */
export type Scope = Readonly<Record<string, CelValue | undefined>>;

/** @throws CelError if there is no value. */
export function evaluate(expression: Expression, scope: Scope): CelValue {
  switch (expression.kind) {
    case "literal":
      return expression.value;
    case "name": {
      const value = scope[expression.name];
      if (value === undefined) throw new CelError(`undeclared reference to '${expression.name}'`);
      return value;
    }
    case "list":
      return expression.items.map((item) => evaluate(item, scope));
    case "member":
      return fieldOf(evaluate(expression.of, scope), expression.field);
    case "index": {
      const of = evaluate(expression.of, scope);
      const at = evaluate(expression.at, scope);
      if (typeof at === "string") return fieldOf(of, at);
      const item = Array.isArray(of) && typeof at === "number" ? (of as readonly CelValue[])[at] : undefined;
      if (item === undefined) throw new CelError(`index out of bounds: ${String(at)}`);
      return item;
    }
    case "unary": {
      const of = evaluate(expression.of, scope);
      return expression.operator === "!" ? !bool(of) : -int(of);
    }
    case "choice":
      return evaluate(bool(evaluate(expression.condition, scope)) ? expression.then : expression.otherwise, scope);
    case "binary":
      return binary(expression, scope);
    case "call":
      return call(expression, scope);
    default:
      return expression satisfies never;
  }
}

function binary({ operator, left, right }: Extract<Expression, { kind: "binary" }>, scope: Scope): CelValue {
  if (operator === "&&" || operator === "||") {
    // The specification makes both commutative: one side that decides absorbs the other side's error.
    const decisive = operator === "||";
    try {
      if (bool(evaluate(left, scope)) === decisive) return decisive;
    } catch (error) {
      if (error instanceof CelError && bool(evaluate(right, scope)) === decisive) return decisive;
      throw error;
    }
    return bool(evaluate(right, scope));
  }
  const [a, b] = [evaluate(left, scope), evaluate(right, scope)];
  switch (operator) {
    case "==":
      return same(a, b);
    case "!=":
      return !same(a, b);
    case "in":
      if (Array.isArray(b)) return b.some((item: CelValue) => same(item, a));
      return typeof a === "string" && Object.hasOwn(map(b), a);
    case "+":
      if (typeof a === "string" && typeof b === "string") return a + b;
      if (Array.isArray(a) && Array.isArray(b)) return [...(a as CelValue[]), ...(b as CelValue[])];
      return int(a) + int(b);
    case "-":
      return int(a) - int(b);
    case "<":
      return int(a) < int(b);
    case "<=":
      return int(a) <= int(b);
    case ">":
      return int(a) > int(b);
    case ">=":
      return int(a) >= int(b);
    default:
      throw new CelError(`no such operator here: ${operator}`);
  }
}

function call({ on, name, args }: Extract<Expression, { kind: "call" }>, scope: Scope): CelValue {
  const [first, second] = args;
  if (on === undefined) {
    if (name === "has" && first?.kind === "member" && second === undefined) {
      const of = evaluate(first.of, scope);
      return Object.hasOwn(map(of), first.field);
    }
    if (name === "size" && first !== undefined) return sizeOf(evaluate(first, scope));
    throw new CelError(`no such function here: ${name}`);
  }
  const receiver = evaluate(on, scope);
  if (MACROS.has(name) && first?.kind === "name" && second !== undefined) {
    return macro(name, receiver, (item) => evaluate(second, { ...scope, [first.name]: item }));
  }
  const values = args.map((arg) => evaluate(arg, scope));
  if (isHost(receiver)) return receiver.call(name, values);
  if (name === "size" && values.length === 0) return sizeOf(receiver);
  if (typeof receiver === "string") return textMethod(receiver, name, values);
  throw new CelError(`no such method here: ${name}`);
}

const MACROS: ReadonlySet<string> = new Set(["all", "exists", "filter", "map"]);

function macro(name: string, over: CelValue, ask: (item: CelValue) => CelValue): CelValue {
  // Over a map, the keys.
  const items = Array.isArray(over) ? (over as readonly CelValue[]) : Object.keys(map(over));
  switch (name) {
    case "all":
      return items.every((item) => bool(ask(item)));
    case "exists":
      return items.some((item) => bool(ask(item)));
    case "filter":
      return items.filter((item) => bool(ask(item)));
    default:
      return items.map(ask);
  }
}

/** Of the standard library and of the strings extension, as Kubernetes has both. */
function textMethod(text: string, name: string, args: readonly CelValue[]): CelValue {
  const given = (index: number): string => {
    const value = args[index];
    if (typeof value !== "string") throw new CelError(`${name}: expected a string`);
    return value;
  };
  switch (name) {
    case "startsWith":
      return text.startsWith(given(0));
    case "endsWith":
      return text.endsWith(given(0));
    case "contains":
      return text.includes(given(0));
    case "matches":
      return RE2JS.compile(given(0)).matcher(text).find();
    case "split":
      return text.split(given(0));
    case "indexOf":
      return text.indexOf(given(0));
    case "lastIndexOf":
      return text.lastIndexOf(given(0));
    case "substring": {
      const from = int(args[0] ?? 0);
      const to = args[1] === undefined ? text.length : int(args[1]);
      if (from < 0 || to > text.length || from > to) throw new CelError("substring: index out of range");
      return text.slice(from, to);
    }
    default:
      throw new CelError(`no such method of strings here: ${name}`);
  }
}

function fieldOf(of: CelValue, field: string): CelValue {
  const fields = map(of);
  const value = Object.hasOwn(fields, field) ? fields[field] : undefined;
  if (value === undefined) throw new CelError(`no such key: ${field}`);
  return value;
}

function sizeOf(value: CelValue): number {
  if (typeof value === "string") return [...value].length;
  return Array.isArray(value) ? value.length : Object.keys(map(value)).length;
}

function isHost(value: CelValue): value is Host {
  return typeof value === "object" && value !== null && "call" in value && typeof value["call"] === "function";
}

function map(value: CelValue): { readonly [key: string]: CelValue } {
  if (typeof value !== "object" || value === null || Array.isArray(value) || isHost(value))
    throw new CelError("expected a map");
  // Neither a list nor a host: what is left is data.
  return value as { readonly [key: string]: CelValue };
}

function bool(value: CelValue): boolean {
  if (typeof value !== "boolean") throw new CelError("expected a bool");
  return value;
}

function int(value: CelValue): number {
  if (typeof value !== "number") throw new CelError("expected an int");
  return value;
}

function same(a: CelValue, b: CelValue): boolean {
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === b;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item: CelValue, index) => same(item, b[index] as CelValue));
  }
  const [left, right] = [map(a), map(b)];
  const keys = Object.keys(left);
  if (keys.length !== Object.keys(right).length) return false;
  return keys.every((key) => Object.hasOwn(right, key) && same(left[key] as CelValue, right[key] as CelValue));
}
