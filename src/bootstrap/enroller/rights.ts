import { ENROLLER_SERVICE_ACCOUNT } from "../control/index.ts";
import { GROUPS } from "./group.ts";
import { ENROLLER_SERVICE } from "./invite.ts";

const NAME = "mesh-agent-enroller";
export const ENROLLER_ACCOUNT = ENROLLER_SERVICE_ACCOUNT;
const RBAC = "rbac.authorization.k8s.io";
const LOOK = ["get", "list", "watch"];

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

function rule(apiGroup: string, resource: string, verbs: readonly string[], names?: readonly string[]): Rule {
  return { apiGroups: [apiGroup], resources: [resource], verbs, ...(names && { resourceNames: names }) };
}

const CLUSTER_RULES: readonly Rule[] = [
  // A server-side apply is a patch, and a creation if there is nothing yet.
  rule("workload.linkerd.io", "externalworkloads", [...LOOK, "create", "patch", "delete"]),
  rule("workload.linkerd.io", "externalworkloads/status", ["patch"]),
  rule(GROUPS.group, GROUPS.plural, LOOK),
  rule(GROUPS.group, `${GROUPS.plural}/status`, ["patch"]),
  rule("", "services", ["get"]),
  rule("", "events", ["create"]),
  rule("discovery.k8s.io", "endpointslices", ["list", "watch"]),
  rule("networking.k8s.io", "servicecidrs", ["list"]),
];

const NAMESPACE_RULES: readonly Rule[] = [
  // The issuer's Secret and the invitations.
  rule("", "secrets", [...LOOK, "update", "delete"]),
  rule("", "configmaps", LOOK),
  // One per host, and the one by which a single enroller looks after groups.
  rule("coordination.k8s.io", "leases", [...LOOK, "create", "update", "patch", "delete"]),
];

/** One right of the enroller; without a namespace, it holds in all. */
export interface Right {
  readonly namespace: string | undefined;
  readonly group: string;
  /** Plural, with its subresource. */
  readonly resource: string;
  readonly verb: string;
}

/** Every single right that {@link rights} give to the enroller. */
export function enrollerRights(namespace: string): readonly Right[] {
  const each = (rules: readonly Rule[], within: string | undefined) =>
    rules.flatMap(({ apiGroups: [group = ""], resources: [resource = ""], verbs }) =>
      verbs.map((verb) => ({ namespace: within, group, resource, verb })),
    );
  return [...each(CLUSTER_RULES, undefined), ...each(NAMESPACE_RULES, namespace)];
}

/**
 * Who may do what. The enroller: cluster-wide only what concerns workloads, groups and names; Secrets and leases in one
 * namespace. Inviters and approvers are roles for people, bound to nobody: where a RoleBinding binds them, there they hold.
 */
export function rights(namespace: string, labels: Readonly<Record<string, string>>): readonly object[] {
  const group = GROUPS.group;
  const role = (name: string, rules: readonly Rule[], within?: string) => ({
    apiVersion: `${RBAC}/v1`,
    kind: within === undefined ? "ClusterRole" : "Role",
    metadata: { name, ...(within && { namespace: within }), labels },
    rules,
  });
  const binding = (within?: string) => ({
    apiVersion: `${RBAC}/v1`,
    kind: within === undefined ? "ClusterRoleBinding" : "RoleBinding",
    metadata: { name: NAME, ...(within && { namespace: within }), labels },
    roleRef: { apiGroup: RBAC, kind: within === undefined ? "ClusterRole" : "Role", name: NAME },
    subjects: [{ kind: "ServiceAccount", name: ENROLLER_SERVICE_ACCOUNT, namespace }],
  });
  return [
    role(NAME, CLUSTER_RULES),
    binding(),
    role(NAME, NAMESPACE_RULES, namespace),
    binding(namespace),
    role("mesh-agent-inviter", [
      // `invite` is a verb of our own: admission asks for it in the namespace that an invitation is for.
      rule(group, GROUPS.plural, [...LOOK, "create", "invite"]),
      rule("", "serviceaccounts", ["get"]),
    ]),
    role(
      "mesh-agent-inviter",
      [
        // A POST has no name that could be restricted: whoever invites could create any Secret here.
        rule("", "secrets", ["create"]),
        rule("", "configmaps", ["get"], ["linkerd-identity-trust-roots", "linkerd-config"]),
        rule("", "services", ["get"], [ENROLLER_SERVICE]),
      ],
      namespace,
    ),
    role("mesh-agent-approver", [rule(group, GROUPS.plural, [...LOOK, "update", "patch"])]),
  ];
}
