import type { KubeObject, ResourceType } from "../../bootstrap/enroller/kubernetes.ts";
import type { Resource } from "./catalog.ts";
import { CelError, type CelValue, evaluate, type Host, parseExpression } from "./cel/index.ts";
import { isMap, type JsonMap, listAt, mapAt, textAt } from "./json.ts";
import { type Access, authorize, type RoleStore, type User } from "./rbac.ts";
import { LabError } from "./status.ts";

const REGISTRATION = { group: "admissionregistration.k8s.io", version: "v1" } as const;
const POLICIES: ResourceType = { ...REGISTRATION, plural: "validatingadmissionpolicies" };
const BINDINGS: ResourceType = { ...REGISTRATION, plural: "validatingadmissionpolicybindings" };
const NAMESPACES: ResourceType = { group: "", version: "v1", plural: "namespaces" };

/** One write that is to be judged. */
export interface Review {
  readonly resource: Resource;
  readonly operation: "CREATE" | "UPDATE" | "DELETE";
  /** As it will be; undefined when it is deleted. */
  readonly object: JsonMap | undefined;
  /** As it is; undefined when it is created. */
  readonly oldObject: JsonMap | undefined;
  readonly user: User;
}

/**
 * Judges a write by every ValidatingAdmissionPolicy that is bound with `Deny`, by the expressions that stand in it: match
 * constraints, match conditions, variables, validations. An expression without a value refuses, unless the policy says
 * `failurePolicy: Ignore`.
 *
 * @throws LabError 403 or 422 with the policy's own message.
 */
export function enforcePolicies(store: RoleStore, review: Review): void {
  const bound = new Set(
    store
      .list(BINDINGS)
      .map((binding) => mapAt(binding as unknown as JsonMap, "spec"))
      .filter((spec) => listAt(spec, "validationActions").includes("Deny"))
      .map((spec) => textAt(spec, "policyName")),
  );
  for (const policy of store.list(POLICIES)) {
    const spec = mapAt(policy as unknown as JsonMap, "spec");
    if (bound.has(policy.metadata.name) && matches(store, spec, review)) judge(store, policy, spec, review);
  }
}

function matches(store: RoleStore, spec: JsonMap, review: Review): boolean {
  const { resource, operation } = review;
  const constraints = mapAt(spec, "matchConstraints");
  const named = listAt(constraints, "resourceRules").some((rule) => {
    if (!isMap(rule)) return false;
    const holds = (field: string, value: string) =>
      listAt(rule, field).includes(value) || listAt(rule, field).includes("*");
    return holds("apiGroups", resource.group) && holds("resources", resource.plural) && holds("operations", operation);
  });
  const wanted = mapAt(mapAt(constraints, "namespaceSelector"), "matchLabels");
  if (!named || Object.keys(wanted).length === 0) return named;
  const labels = namespaceOf(store, review)?.metadata.labels ?? {};
  return Object.entries(wanted).every(([key, value]) => labels[key] === value);
}

function namespaceOf(store: RoleStore, { object, oldObject }: Review): KubeObject | undefined {
  const namespace = textAt(mapAt(object ?? oldObject ?? {}, "metadata"), "namespace");
  return namespace === undefined ? undefined : store.get(NAMESPACES, undefined, namespace);
}

function judge(store: RoleStore, policy: KubeObject, spec: JsonMap, review: Review): void {
  const { operation, object, oldObject, user } = review;
  const variables: Record<string, CelValue> = {};
  for (const variable of listAt(spec, "variables").filter(isMap)) {
    const expression = parseExpression(textAt(variable, "expression") ?? "");
    // Asked when it is used: one that has no value hurts nobody who does not need it.
    Object.defineProperty(variables, textAt(variable, "name") ?? "", {
      enumerable: true,
      get: () => evaluate(expression, scope),
    });
  }
  const scope: Record<string, CelValue> = {
    object: (object ?? null) as CelValue,
    namespaceObject: (namespaceOf(store, review) ?? null) as CelValue,
    oldObject: (oldObject ?? null) as CelValue,
    request: { operation, userInfo: { username: user.username, groups: [...user.groups] } },
    authorizer: authorizer(store, user, {}),
    variables,
  };
  const ask = (expression: string): boolean => {
    try {
      return evaluate(parseExpression(expression), scope) === true;
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      if (spec["failurePolicy"] === "Ignore") return true;
      throw denied(policy, review, `expression '${expression}' resulted in error: ${error.message}`, "Invalid");
    }
  };
  for (const condition of listAt(spec, "matchConditions").filter(isMap)) {
    if (!ask(textAt(condition, "expression") ?? "false")) return;
  }
  for (const validation of listAt(spec, "validations").filter(isMap)) {
    const expression = textAt(validation, "expression") ?? "false";
    if (ask(expression)) continue;
    const message = textAt(validation, "message") ?? `failed expression: ${expression}`;
    throw denied(policy, review, message, textAt(validation, "reason") ?? "Invalid");
  }
}

function denied(
  policy: KubeObject,
  { resource, object, oldObject }: Review,
  message: string,
  reason: string,
): LabError {
  const name = textAt(mapAt(object ?? oldObject ?? {}, "metadata"), "name") ?? "";
  const kind = resource.group === "" ? resource.plural : `${resource.plural}.${resource.group}`;
  const text = `${kind} "${name}" is forbidden: ValidatingAdmissionPolicy '${policy.metadata.name}' with binding '${policy.metadata.name}' denied request: ${message}`;
  return new LabError(reason === "Forbidden" ? 403 : 422, reason, text);
}

type Question = Partial<Pick<Access, "group" | "resource" | "namespace" | "name">>;

/** Kubernetes' authorizer library: `authorizer.group(…).resource(…).namespace(…).name(…).check(…).allowed()`. */
function authorizer(store: RoleStore, user: User, question: Question): Host {
  return {
    call(method, args) {
      const [value] = args;
      if (typeof value !== "string" || args.length !== 1) throw new CelError(`${method}: expected a string`);
      switch (method) {
        case "group":
        case "resource":
        case "namespace":
        case "name":
          return authorizer(store, user, { ...question, [method]: value });
        case "check": {
          const { group = "", resource = "", namespace, name } = question;
          return decision(authorize(store, user, { verb: value, group, resource, namespace, name }) !== undefined);
        }
        default:
          throw new CelError(`no such method of the authorizer here: ${method}`);
      }
    },
  };
}

function decision(allowed: boolean): Host {
  return {
    call(method) {
      if (method === "allowed") return allowed;
      throw new CelError(`no such method of a decision here: ${method}`);
    },
  };
}
