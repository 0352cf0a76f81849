import { isIPv4, isIPv6 } from "node:net";
import type { Resource } from "./catalog.ts";
import { equal, isMap, type Json, type JsonMap, listAt, mapAt, textAt } from "./json.ts";
import { admitBySchema } from "./schema.ts";
import type { ServiceCidr } from "./service-cidr.ts";
import { type FieldProblem, invalid } from "./status.ts";

/** What admission may look at beside the object itself. */
export interface AdmissionContext {
  readonly serviceCidr: ServiceCidr;
  /** ClusterIPs of all services but the one that is written. */
  readonly usedClusterIps: () => ReadonlySet<string>;
}

/**
 * Fills in what the API server would fill in, and refuses what it would refuse.
 *
 * @param object - Changed in place.
 * @param live - The stored object, if this is not a creation.
 * @throws LabError 422 that names the fields.
 */
export function admit(resource: Resource, object: JsonMap, live: JsonMap | undefined, context: AdmissionContext): void {
  const problems = nameProblems(resource, object);
  if (resource.schema) problems.push(...admitBySchema(resource.schema, object, live));
  switch (resource.kind) {
    case "Namespace":
      admitNamespace(object);
      break;
    case "Secret":
      admitSecret(object);
      break;
    case "Pod":
      if (textAt(mapAt(object, "status"), "phase") === undefined) {
        object["status"] = { ...mapAt(object, "status"), phase: "Pending" };
      }
      break;
    case "Service":
      problems.push(...admitService(object, live, context));
      break;
    case "EndpointSlice":
      problems.push(...endpointSliceProblems(object));
      break;
    case "CustomResourceDefinition":
      object["status"] = { conditions: [{ type: "Established", status: "True", reason: "InitialNamesAccepted" }] };
      break;
    case "Lease":
      // A structure without fields is not nothing: the API server writes it, and Linkerd's policy controller waits for it.
      object["spec"] ??= {};
      break;
    case "Server":
      problems.push(...serverProblems(object));
      break;
    default:
  }
  if (problems.length > 0) {
    throw invalid(resource.kind, resource.group, textAt(mapAt(object, "metadata"), "name") ?? "", problems);
  }
}

// RFC 1123 §2.1 labels; most kinds take a dotted name, those that become DNS labels take a single one.
const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

function nameProblems(resource: Resource, object: JsonMap): FieldProblem[] {
  const metadata = mapAt(object, "metadata");
  const name = textAt(metadata, "name") ?? "";
  const problems: FieldProblem[] = [];
  const single = resource.kind === "Namespace" || resource.kind === "Service";
  const rbac = resource.group === "rbac.authorization.k8s.io";
  const fits = rbac ? !name.includes("/") : single ? LABEL.test(name) && name.length <= 63 : SUBDOMAIN.test(name);
  if (name === "")
    problems.push(problem("metadata.name", "Required value: name or generateName is required", "FieldValueRequired"));
  else if (!fits || name.length > 253) {
    const shape = single ? "a lowercase RFC 1123 label" : "a lowercase RFC 1123 subdomain";
    problems.push(
      problem(
        "metadata.name",
        `Invalid value: ${JSON.stringify(name)}: ${shape} must consist of lower case alphanumeric characters or '-'`,
      ),
    );
  }
  for (const [key, value] of Object.entries(mapAt(metadata, "labels"))) {
    if (!LABEL_KEY.test(key))
      problems.push(problem("metadata.labels", `Invalid value: ${JSON.stringify(key)}: not a label key`));
    if (typeof value !== "string" || !LABEL_VALUE.test(value)) {
      problems.push(problem("metadata.labels", `Invalid value: ${JSON.stringify(value)}: not a label value`));
    }
  }
  return problems;
}

function admitNamespace(object: JsonMap): void {
  const metadata = mapAt(object, "metadata");
  const name = textAt(metadata, "name") ?? "";
  metadata["labels"] = { ...mapAt(metadata, "labels"), "kubernetes.io/metadata.name": name };
  object["status"] = { phase: metadata["deletionTimestamp"] === undefined ? "Active" : "Terminating" };
}

function admitSecret(object: JsonMap): void {
  const given = object["stringData"];
  if (isMap(given)) {
    const data: JsonMap = { ...mapAt(object, "data") };
    for (const [key, value] of Object.entries(given)) data[key] = Buffer.from(String(value)).toString("base64");
    object["data"] = data;
    delete object["stringData"];
  }
  object["type"] ??= "Opaque";
}

function admitService(object: JsonMap, live: JsonMap | undefined, context: AdmissionContext): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const spec = mapAt(object, "spec");
  object["spec"] = spec;
  spec["type"] ??= "ClusterIP";
  spec["sessionAffinity"] ??= "None";
  const external = spec["type"] === "ExternalName";
  spec["ports"] = listAt(spec, "ports").map((item) => portWithDefaults(item));
  const ports = listAt(spec, "ports").filter(isMap);
  if (ports.length === 0) delete spec["ports"];
  if (ports.length === 0 && !external && spec["clusterIP"] !== "None") {
    problems.push(problem("spec.ports", "Required value", "FieldValueRequired"));
  }
  problems.push(...portProblems(ports));
  if (external) return problems;

  spec["internalTrafficPolicy"] ??= "Cluster";
  spec["ipFamilyPolicy"] ??= "SingleStack";
  spec["ipFamilies"] ??= ["IPv4"];
  const before = textAt(live ? mapAt(live, "spec") : {}, "clusterIP");
  const wanted = textAt(spec, "clusterIP") || before;
  if (before !== undefined && wanted !== before) {
    problems.push(problem("spec.clusterIP", `Invalid value: ${JSON.stringify(wanted)}: field is immutable`));
  } else if (wanted === undefined) {
    const address = context.serviceCidr.allocate(context.usedClusterIps());
    if (address === undefined) problems.push(problem("spec.clusterIP", "Internal error: range is full"));
    else spec["clusterIP"] = address;
  } else {
    if (before === undefined && wanted !== "None") problems.push(...addressProblems(wanted, context));
    spec["clusterIP"] = wanted;
  }
  if (typeof spec["clusterIP"] === "string") spec["clusterIPs"] = [spec["clusterIP"]];
  return problems;
}

function portWithDefaults(item: Json): Json {
  if (!isMap(item)) return item;
  return { protocol: "TCP", targetPort: item["port"] ?? 0, ...item };
}

function portProblems(ports: readonly JsonMap[]): FieldProblem[] {
  const problems: FieldProblem[] = [];
  for (const [index, port] of ports.entries()) {
    const field = `spec.ports[${index}]`;
    const number = port["port"];
    if (typeof number !== "number" || number < 1 || number > 65535) {
      problems.push(
        problem(
          `${field}.port`,
          `Invalid value: ${JSON.stringify(number ?? 0)}: must be between 1 and 65535, inclusive`,
        ),
      );
    }
    if (ports.length > 1 && textAt(port, "name") === undefined) {
      problems.push(problem(`${field}.name`, "Required value", "FieldValueRequired"));
    }
    const twin = ports.findIndex((other) => other["port"] === number && other["protocol"] === port["protocol"]);
    if (twin < index)
      problems.push(problem(field, `Duplicate value: ${JSON.stringify(number)}`, "FieldValueDuplicate"));
  }
  return problems;
}

function addressProblems(address: string, context: AdmissionContext): FieldProblem[] {
  if (!context.serviceCidr.includes(address)) {
    return [
      problem(
        "spec.clusterIPs",
        `Invalid value: ["${address}"]: failed to allocate IP ${address}: the provided IP is not in the valid range (${context.serviceCidr.text})`,
      ),
    ];
  }
  if (!context.usedClusterIps().has(address)) return [];
  return [
    problem(
      "spec.clusterIPs",
      `Invalid value: ["${address}"]: failed to allocate IP ${address}: provided IP is already allocated`,
    ),
  ];
}

// An address nobody else can reach is refused. One such address in an ExternalWorkload, which takes any text, makes
// the write of the whole slice fail.
const UNREACHABLE_IPV4 = /^(0\.0\.0\.0$|127\.|169\.254\.|224\.0\.0\.)/;
const UNREACHABLE_IPV6 = /^(::$|::1$|fe[89ab][0-9a-f]:|ff.2:)/i;

function endpointSliceProblems(object: JsonMap): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const type = textAt(object, "addressType");
  if (type === undefined) problems.push(problem("addressType", "Required value", "FieldValueRequired"));
  for (const [index, endpoint] of listAt(object, "endpoints").entries()) {
    const addresses = isMap(endpoint) ? listAt(endpoint, "addresses") : [];
    const field = `endpoints[${index}].addresses`;
    if (addresses.length === 0)
      problems.push(problem(field, "Required value: must contain at least 1 address", "FieldValueRequired"));
    for (const address of addresses) {
      const fits =
        type === "FQDN" ||
        (typeof address === "string" &&
          (type === "IPv6"
            ? isIPv6(address) && !UNREACHABLE_IPV6.test(address)
            : isIPv4(address) && !UNREACHABLE_IPV4.test(address)));
      if (!fits)
        problems.push(problem(field, `Invalid value: ${JSON.stringify(address)}: not a usable ${type} address`));
    }
  }
  return problems;
}

function serverProblems(object: JsonMap): FieldProblem[] {
  const spec = mapAt(object, "spec");
  const problems: FieldProblem[] = [];
  if (isMap(spec["podSelector"]) === isMap(spec["externalWorkloadSelector"])) {
    problems.push(
      problem("spec", "Invalid value: exactly one of podSelector and externalWorkloadSelector must be set"),
    );
  }
  if (spec["port"] === undefined) problems.push(problem("spec.port", "Required value", "FieldValueRequired"));
  spec["proxyProtocol"] ??= "unknown";
  spec["accessPolicy"] ??= "deny";
  return problems;
}

function problem(field: string, message: string, reason = "FieldValueInvalid"): FieldProblem {
  return { field, reason, message };
}

/** Whether two objects differ in what a user wants of them: everything but metadata and status. */
export function sameIntent(a: JsonMap, b: JsonMap): boolean {
  return equal(intent(a), intent(b));
}

function intent(object: JsonMap): JsonMap {
  const { metadata: _metadata, status: _status, ...rest } = object;
  return rest;
}
