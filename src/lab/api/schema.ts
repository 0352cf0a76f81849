import { CelError, type CelValue, evaluate, parseExpression } from "./cel/index.ts";
import { isMap, type Json, type JsonMap } from "./json.ts";
import type { FieldProblem } from "./status.ts";

/** The part of a structural OpenAPI v3 schema that the lab's custom resources use. */
export interface Schema {
  readonly type: "object" | "array" | "string" | "integer" | "boolean";
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  /** A map from any key. */
  readonly additionalProperties?: Schema;
  readonly maxProperties?: number;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly enum?: readonly string[];
  /** Anchored by itself, as in the CRD. */
  readonly pattern?: string;
  readonly format?: "date-time" | "int32" | "int64";
  readonly default?: string;
  /** Rules in CEL; those that speak of `oldSelf` are asked when there is an old value. */
  readonly "x-kubernetes-validations"?: readonly { readonly rule: string; readonly message?: string }[];
}

/**
 * Does what an API server does with a custom resource: drops fields that the schema does not know, fills in defaults,
 * and complains about what is left. Of the metadata, only the name can be restricted.
 *
 * @param object - Changed in place.
 * @param old - What it replaces, if anything.
 */
export function admitBySchema(schema: Schema, object: JsonMap, old?: JsonMap): FieldProblem[] {
  const problems: FieldProblem[] = [];
  for (const key of Object.keys(object)) {
    if (key === "apiVersion" || key === "kind") continue;
    const known = schema.properties?.[key];
    if (key === "metadata") {
      const [name, rule] = [isMap(object[key]) ? object[key]["name"] : undefined, known?.properties?.["name"]];
      if (rule !== undefined && name !== undefined) judge(rule, name, "metadata.name", problems, undefined);
    } else if (known === undefined) delete object[key];
    else judge(known, object[key], key, problems, old?.[key]);
  }
  for (const key of schema.required ?? []) {
    if (object[key] === undefined) problems.push(required(key));
  }
  return problems;
}

function judge(
  schema: Schema,
  value: Json | undefined,
  field: string,
  problems: FieldProblem[],
  old: Json | undefined,
): void {
  const before = problems.length;
  judgeShape(schema, value, field, problems, old);
  // A rule may rely on the shape.
  if (problems.length === before) judgeRules(schema, value, field, problems, old);
}

function judgeRules(
  schema: Schema,
  value: Json | undefined,
  field: string,
  problems: FieldProblem[],
  old: Json | undefined,
): void {
  for (const { rule, message = `failed rule: ${rule}` } of schema["x-kubernetes-validations"] ?? []) {
    if (value === undefined || (old === undefined && /\boldSelf\b/.test(rule))) continue;
    const scope = { self: value as CelValue, ...(old !== undefined && { oldSelf: old as CelValue }) };
    try {
      if (evaluate(parseExpression(rule), scope) === true) continue;
      problems.push(bad(field, `Invalid value: "${schema.type}": ${message}`));
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      problems.push(bad(field, `Invalid value: "${schema.type}": rule resulted in error: ${error.message}`));
    }
  }
}

function judgeShape(
  schema: Schema,
  value: Json | undefined,
  field: string,
  problems: FieldProblem[],
  old: Json | undefined,
): void {
  switch (schema.type) {
    case "object":
      if (!isMap(value)) problems.push(wrongType(field, value, "object"));
      else judgeMap(schema, value, field, problems, isMap(old) ? old : undefined);
      return;
    case "array":
      if (!Array.isArray(value)) {
        problems.push(wrongType(field, value, "array"));
        return;
      }
      if (schema.maxItems !== undefined && value.length > schema.maxItems) {
        problems.push(
          bad(field, `Too many: ${value.length}: must have at most ${schema.maxItems} items`, "FieldValueTooMany"),
        );
      }
      if (schema.minItems !== undefined && value.length < schema.minItems) {
        problems.push(bad(field, `Invalid value: ${value.length}: should have at least ${schema.minItems} items`));
      }
      for (const [index, item] of value.entries()) {
        // Items of an atomic list have no past.
        if (schema.items !== undefined) judge(schema.items, item, `${field}[${index}]`, problems, undefined);
      }
      return;
    case "string":
      if (typeof value !== "string") problems.push(wrongType(field, value, "string"));
      else judgeText(schema, value, field, problems);
      return;
    case "integer":
      if (typeof value !== "number" || !Number.isInteger(value)) problems.push(wrongType(field, value, "integer"));
      else judgeNumber(schema, value, field, problems);
      return;
    case "boolean":
      if (typeof value !== "boolean") problems.push(wrongType(field, value, "boolean"));
      return;
    default:
      schema.type satisfies never;
  }
}

function judgeMap(
  schema: Schema,
  value: JsonMap,
  field: string,
  problems: FieldProblem[],
  old: JsonMap | undefined,
): void {
  const entries = Object.entries(value);
  if (schema.maxProperties !== undefined && entries.length > schema.maxProperties) {
    const why = `Too many: ${entries.length}: must have at most ${schema.maxProperties} items`;
    problems.push(bad(field, why, "FieldValueTooMany"));
  }
  if (schema.additionalProperties !== undefined) {
    const { additionalProperties: each } = schema;
    for (const [key, item] of entries) judge(each, item, `${field}.${key}`, problems, old?.[key]);
  }
  if (schema.properties === undefined) return;
  for (const key of Object.keys(value)) {
    if (schema.properties[key] === undefined) delete value[key];
  }
  for (const [key, property] of Object.entries(schema.properties)) {
    if (value[key] === undefined && property.default !== undefined) value[key] = property.default;
    if (value[key] !== undefined) judge(property, value[key], `${field}.${key}`, problems, old?.[key]);
  }
  for (const key of schema.required ?? []) {
    if (value[key] === undefined) problems.push(required(`${field}.${key}`));
  }
}

function judgeText(schema: Schema, value: string, field: string, problems: FieldProblem[]): void {
  const said = JSON.stringify(value);
  if (schema.minLength !== undefined && value.length < schema.minLength) {
    problems.push(
      bad(field, `Invalid value: ${said}: ${field} in body should be at least ${schema.minLength} chars long`),
    );
  }
  if (schema.maxLength !== undefined && value.length > schema.maxLength) {
    problems.push(bad(field, `Too long: may not be longer than ${schema.maxLength}`, "FieldValueTooLong"));
  }
  if (schema.enum !== undefined && !schema.enum.includes(value)) {
    const values = schema.enum.map((item) => JSON.stringify(item)).join(", ");
    problems.push(bad(field, `Unsupported value: ${said}: supported values: ${values}`, "FieldValueNotSupported"));
  }
  if (schema.pattern !== undefined && !new RegExp(schema.pattern, "u").test(value)) {
    problems.push(bad(field, `Invalid value: ${said}: ${field} in body should match '${schema.pattern}'`));
  }
  if (schema.format === "date-time" && !isDateTime(value)) {
    problems.push(bad(field, `Invalid value: ${said}: ${field} in body must be of type date-time: ${said}`));
  }
}

function judgeNumber(schema: Schema, value: number, field: string, problems: FieldProblem[]): void {
  if (schema.minimum !== undefined && value < schema.minimum) {
    const why = `${field} in body should be greater than or equal to ${schema.minimum}`;
    problems.push(bad(field, `Invalid value: ${value}: ${why}`));
  }
  if (schema.maximum !== undefined && value > schema.maximum) {
    const why = `${field} in body should be less than or equal to ${schema.maximum}`;
    problems.push(bad(field, `Invalid value: ${value}: ${why}`));
  }
}

// RFC 3339 §5.6
function isDateTime(text: string): boolean {
  const shape = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/;
  return shape.test(text) && !Number.isNaN(Date.parse(text));
}

function required(field: string): FieldProblem {
  return { field, reason: "FieldValueRequired", message: "Required value" };
}

function wrongType(field: string, value: Json | undefined, wanted: string): FieldProblem {
  const got = Array.isArray(value) ? "array" : isMap(value) ? "object" : typeof value;
  const message = `Invalid value: "${got}": ${field} in body must be of type ${wanted}: "${got}"`;
  return { field, reason: "FieldValueTypeInvalid", message };
}

function bad(field: string, message: string, reason = "FieldValueInvalid"): FieldProblem {
  return { field, reason, message };
}
