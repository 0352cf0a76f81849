import { KubeError } from "../../bootstrap/enroller/kubernetes.ts";
import type { JsonMap } from "./json.ts";

/** One complaint about one field, as kubectl prints it. */
export interface FieldProblem {
  /** Such as `spec.ports[0].port`. */
  readonly field: string;
  /** `FieldValueRequired`, `FieldValueInvalid`, `FieldManagerConflict` … */
  readonly reason: string;
  readonly message: string;
}

/** A failure with the details that a Status object carries beside code and reason. */
export class LabError extends KubeError {
  readonly details: JsonMap;
  constructor(code: number, reason: string, message: string, details: JsonMap = {}) {
    super(code, reason, message);
    this.details = details;
  }
}

export function qualified(plural: string, group: string): string {
  return group === "" ? plural : `${plural}.${group}`;
}

export function notFound(plural: string, group: string, name: string): LabError {
  return new LabError(404, "NotFound", `${qualified(plural, group)} "${name}" not found`, {
    name,
    group,
    kind: plural,
  });
}

export function alreadyExists(plural: string, group: string, name: string): LabError {
  const message = `${qualified(plural, group)} "${name}" already exists`;
  return new LabError(409, "AlreadyExists", message, { name, group, kind: plural });
}

export function conflict(plural: string, group: string, name: string, why: string): LabError {
  const message = `Operation cannot be fulfilled on ${qualified(plural, group)} "${name}": ${why}`;
  return new LabError(409, "Conflict", message, { name, group, kind: plural });
}

export function invalid(kind: string, group: string, name: string, problems: readonly FieldProblem[]): LabError {
  const said = problems.map((problem) => `${problem.field}: ${problem.message}`);
  const text = said.length === 1 ? said[0] : `[${said.join(", ")}]`;
  return new LabError(422, "Invalid", `${qualified(kind, group)} "${name}" is invalid: ${text}`, {
    name,
    group,
    kind,
    causes: problems.map((problem) => ({ ...problem })),
  });
}

export function badRequest(message: string): LabError {
  return new LabError(400, "BadRequest", message);
}

/** The Status object of an answer that is not a success. */
export function failure(error: KubeError): JsonMap {
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: error.message,
    reason: error.reason,
    details: error instanceof LabError ? error.details : {},
    code: error.code,
  };
}
