import { ENROLLER_SERVICE_ACCOUNT } from "../control/index.ts";
import { GROUPS } from "./group.ts";
import { INVITATION_FOR, SECRET_TYPE } from "./invitation.ts";
import { MANAGED } from "./plan.ts";
import { EXTERNAL_WORKLOADS } from "./resources.ts";

const WORKLOAD_POLICY = "mesh-agent-workload-identity";
const INVITATION_POLICY = "mesh-agent-invitations";
const DELETION_POLICY = "mesh-agent-ready-workloads";
/** Takes the guard of one workload away, for whoever knows better; its value is `true`. */
export const DELETE_WHILE_READY = "mesh-agent/delete-while-ready";

// With a namespace, or with its owner, an object must be able to go, or neither ever ends. The last name is that of both
// controllers where they share one account.
const CLEANERS = [
  "system:serviceaccount:kube-system:namespace-controller",
  "system:serviceaccount:kube-system:generic-garbage-collector",
  "system:kube-controller-manager",
];

// `spiffe://TD/ns/NS/sa/SA`, or `SA.NS.serviceaccount.identity.L5D.TD` where SA may hold dots and NS none. Anything else
// names no ServiceAccount of the cluster: SPIRE's own paths, for example.
const accountVariables = (field: string) => {
  const value = `object.spec.meshTLS.${field}`;
  const head = `variables.${field}Head`;
  return [
    { name: `${field}Head`, expression: `${value}.split('.serviceaccount.identity.')[0]` },
    {
      name: field,
      expression:
        `${value}.matches('^spiffe://[^/]+/ns/[^/]+/sa/[^/]+$') ? [${value}.split('/')[4], ${value}.split('/')[6]]` +
        ` : ${value}.matches('^[^/]+[.][^./]+[.]serviceaccount[.]identity[.]')` +
        ` ? [${head}.substring(${head}.lastIndexOf('.') + 1), ${head}.substring(0, ${head}.lastIndexOf('.'))] : []`,
    },
  ];
};

const mayBe = (variable: string) =>
  `size(variables.${variable}) == 0 || authorizer.group('').resource('serviceaccounts')` +
  `.namespace(variables.${variable}[0]).name(variables.${variable}[1]).check('impersonate').allowed()`;

/** Annotations by which the enroller knows a host; whoever could write them could put a key of his own in. */
const MEMORY = ["mesh-agent/machine", "mesh-agent/keys", "mesh-agent/service-account", "mesh-agent/invitation"];

const memoryOf = (object: string, key: string) =>
  `(has(${object}.metadata.annotations) && '${key}' in ${object}.metadata.annotations ? ${object}.metadata.annotations['${key}'] : '')`;

/**
 * Who may say whose identity an ExternalWorkload has: the enroller, and whoever may impersonate the ServiceAccount that
 * the identity names, which is how Kubernetes itself decides who may act as one (namespace admins and editors may, in
 * their namespace). Identities that name no ServiceAccount are free. Second, who may invite: an invitation's maker must
 * hold the verb `invite` on groups in the namespace that it is for. Both fail closed. Third, nobody deletes a host that is
 * Ready by mistake: Linkerd's destination controller would never tell its peers, which would call it for good. This one
 * fails open, and stands in the way of no namespace that ends.
 */
export function admissionPolicies(namespace: string, labels: Readonly<Record<string, string>>): readonly object[] {
  const enroller = `system:serviceaccount:${namespace}:${ENROLLER_SERVICE_ACCOUNT}`;
  const unlessEnroller = [{ name: "not-the-enroller", expression: `request.userInfo.username != '${enroller}'` }];
  return [
    ...policy(WORKLOAD_POLICY, labels, undefined, {
      resourceRules: [rule(EXTERNAL_WORKLOADS, "*", ["CREATE", "UPDATE"])],
      matchConditions: unlessEnroller,
      variables: [
        {
          name: "same",
          expression: "request.operation == 'UPDATE' && object.spec.meshTLS == oldObject.spec.meshTLS",
        },
        ...accountVariables("identity"),
        ...accountVariables("serverName"),
      ],
      validations: [
        {
          expression: `variables.same || ${mayBe("identity")}`,
          message: "spec.meshTLS.identity names a ServiceAccount that you may not impersonate",
          reason: "Forbidden",
        },
        {
          expression: `variables.same || ${mayBe("serverName")}`,
          message: "spec.meshTLS.serverName names a ServiceAccount that you may not impersonate",
          reason: "Forbidden",
        },
        ...MEMORY.map((key) => ({
          expression: `request.operation == 'UPDATE' ? ${memoryOf("object", key)} == ${memoryOf("oldObject", key)} : ${memoryOf("object", key)} == ''`,
          message: `the annotation ${key} is the enroller's own`,
          reason: "Forbidden",
        })),
      ],
    }),
    ...policy(INVITATION_POLICY, labels, namespace, {
      resourceRules: [rule({ group: "", version: "v1", plural: "secrets" }, "v1", ["CREATE", "UPDATE"])],
      matchConditions: [
        ...unlessEnroller,
        { name: "an-invitation", expression: `has(object.type) && object.type == '${SECRET_TYPE}'` },
      ],
      variables: [
        {
          name: "group",
          expression: `has(object.metadata.annotations) && '${INVITATION_FOR}' in object.metadata.annotations ? object.metadata.annotations['${INVITATION_FOR}'].split('/') : []`,
        },
      ],
      validations: [
        {
          expression: "size(variables.group) == 2",
          message: `an invitation names its group in the annotation ${INVITATION_FOR}`,
        },
        {
          expression: `size(variables.group) != 2 || authorizer.group('${GROUPS.group}').resource('${GROUPS.plural}').namespace(variables.group[0]).name(variables.group[1]).check('invite').allowed()`,
          message: "you may not invite hosts into this namespace: the verb invite on externalworkloadgroups is missing",
          reason: "Forbidden",
        },
      ],
    }),
    ...policy(DELETION_POLICY, labels, undefined, {
      failurePolicy: "Ignore",
      resourceRules: [rule(EXTERNAL_WORKLOADS, "*", ["DELETE"])],
      matchConditions: [
        ...unlessEnroller,
        {
          name: "not-a-cleaner",
          expression: `!(request.userInfo.username in [${CLEANERS.map((name) => `'${name}'`).join(", ")}])`,
        },
        { name: "its-namespace-stays", expression: "!has(namespaceObject.metadata.deletionTimestamp)" },
        {
          name: "kept-by-the-enroller",
          expression: `has(oldObject.metadata.labels) && '${MANAGED}' in oldObject.metadata.labels`,
        },
      ],
      variables: [],
      validations: [
        {
          expression:
            "!has(oldObject.status) || !has(oldObject.status.conditions)" +
            " || !oldObject.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')" +
            ` || ${memoryOf("oldObject", DELETE_WHILE_READY)} == 'true'`,
          message:
            "it is Ready, and the proxies that call it would never hear that it is gone." +
            " Run `mesh-agent down` on the host, or `mesh-agent cluster revoke NAMESPACE/NAME`: then it is not Ready any more." +
            ` If you must, annotate it with ${DELETE_WHILE_READY}=true`,
          reason: "Forbidden",
        },
      ],
    }),
  ];
}

function rule({ group, plural }: typeof EXTERNAL_WORKLOADS, version: string, operations: readonly string[]): object {
  return { apiGroups: [group], apiVersions: [version], resources: [plural], operations };
}

interface Rules {
  /** What an expression without a value means: `Fail`, refused, unless told. */
  readonly failurePolicy?: "Fail" | "Ignore";
  readonly resourceRules: readonly object[];
  readonly matchConditions: readonly object[];
  readonly variables: readonly object[];
  readonly validations: readonly object[];
}

/** A policy and its binding, cluster-wide or for one namespace. */
function policy(
  name: string,
  labels: Readonly<Record<string, string>>,
  namespace: string | undefined,
  { resourceRules, failurePolicy = "Fail", ...rules }: Rules,
): readonly object[] {
  const apiVersion = "admissionregistration.k8s.io/v1";
  const within = namespace && { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } } };
  return [
    {
      apiVersion,
      kind: "ValidatingAdmissionPolicy",
      metadata: { name, labels },
      spec: { failurePolicy, matchConstraints: { resourceRules, ...within }, ...rules },
    },
    {
      apiVersion,
      kind: "ValidatingAdmissionPolicyBinding",
      metadata: { name, labels },
      spec: { policyName: name, validationActions: ["Deny"] },
    },
  ];
}
