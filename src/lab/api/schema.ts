import { isMap, type Json, type JsonMap } from "./json.ts";
import type { FieldProblem } from "./status.ts";

/** The part of a structural OpenAPI v3 schema that the lab's custom resources use. */
export interface Schema {
  readonly type: "object" | "array" | "string" | "integer" | "boolean";
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly enum?: readonly string[];
  /** Anchored by itself, as in the CRD. */
  readonly pattern?: string;
  readonly format?: "date-time" | "int32";
  readonly default?: string;
}

/**
 * Does what an API server does with a custom resource: drops fields that the schema does not know, fills in defaults,
 * and complains about what is left. Only the named top-level fields are judged.
 *
 * @param object - Changed in place.
 */
export function admitBySchema(schema: Schema, object: JsonMap): FieldProblem[] {
  const problems: FieldProblem[] = [];
  for (const key of Object.keys(object)) {
    if (key === "apiVersion" || key === "kind" || key === "metadata") continue;
    const known = schema.properties?.[key];
    if (known === undefined) delete object[key];
    else judge(known, object[key], key, problems);
  }
  for (const key of schema.required ?? []) {
    if (object[key] === undefined) problems.push(required(key));
  }
  return problems;
}

function judge(schema: Schema, value: Json | undefined, field: string, problems: FieldProblem[]): void {
  switch (schema.type) {
    case "object":
      if (!isMap(value)) problems.push(wrongType(field, value, "object"));
      else judgeMap(schema, value, field, problems);
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
      for (const [index, item] of value.entries()) {
        if (schema.items !== undefined) judge(schema.items, item, `${field}[${index}]`, problems);
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

function judgeMap(schema: Schema, value: JsonMap, field: string, problems: FieldProblem[]): void {
  if (schema.properties === undefined) return;
  for (const key of Object.keys(value)) {
    if (schema.properties[key] === undefined) delete value[key];
  }
  for (const [key, property] of Object.entries(schema.properties)) {
    if (value[key] === undefined && property.default !== undefined) value[key] = property.default;
    if (value[key] !== undefined) judge(property, value[key], `${field}.${key}`, problems);
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
