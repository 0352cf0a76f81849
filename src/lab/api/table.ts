import type { KubeObject } from "../../bootstrap/enroller/kubernetes.ts";
import type { PrinterColumn, Resource } from "./catalog.ts";
import { shortDuration } from "./duration.ts";
import { isMap, type Json, type JsonMap, listAt, mapAt, textAt, valueAt } from "./json.ts";

/** A column of a built-in kind, which is more than one field. */
interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  /** Shown with `-o wide` only. */
  readonly wide: boolean;
  readonly cell: (object: JsonMap, now: number) => Json;
}

/** How much of each object a row carries. */
export type Included = "None" | "Metadata" | "Object";

/** A list in the form that kubectl prints without knowing the kind: `Accept: …;as=Table;v=v1;g=meta.k8s.io`. */
export function table(
  resource: Resource,
  objects: readonly KubeObject[],
  version: string,
  included: Included,
  now: number,
): JsonMap {
  const columns = columnsOf(resource);
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata: { resourceVersion: version },
    columnDefinitions: columns.map((column) => ({
      name: column.name,
      type: column.type,
      format: column.name === "Name" ? "name" : "",
      description: "",
      priority: column.wide ? 1 : 0,
    })),
    rows: objects.map((object) => {
      const map = object as unknown as JsonMap;
      return { cells: columns.map((column) => column.cell(map, now)), ...rowObject(map, included) };
    }),
  };
}

function rowObject(object: JsonMap, included: Included): JsonMap {
  if (included === "None") return {};
  return { object: included === "Object" ? object : metadataOf(object) };
}

/** An object's metadata as an object of its own kind: `as=PartialObjectMetadata`. */
export function metadataOf({ metadata = {} }: JsonMap): JsonMap {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata };
}

const text = (name: string, cell: Column["cell"], wide = false): Column => ({ name, type: "string", wide, cell });
const at = (name: string, path: string, wide = false): Column =>
  text(name, (object) => shown(valueAt(object, path)), wide);

const NAME = at("Name", "metadata.name");
const AGE = text("Age", (object, now) => since(valueAt(object, "metadata.creationTimestamp"), now));

const BUILT_IN: Readonly<Record<string, readonly Column[]>> = {
  Namespace: [NAME, at("Status", "status.phase"), AGE],
  Node: [NAME, text("Status", nodeStatus), AGE],
  Service: [
    NAME,
    at("Type", "spec.type"),
    text("Cluster-IP", (object) => shown(valueAt(object, "spec.clusterIP")) || "<none>"),
    text("External-IP", (object) => textAt(mapAt(object, "spec"), "externalName") ?? "<none>"),
    text("Port(s)", servicePorts),
    AGE,
    text("Selector", (object) => pairs(mapAt(mapAt(object, "spec"), "selector")), true),
  ],
  Pod: [
    NAME,
    text("Ready", podReady),
    at("Status", "status.phase"),
    text("Restarts", podRestarts),
    AGE,
    text("IP", (object) => shown(valueAt(object, "status.podIP")) || "<none>", true),
    text("Node", (object) => shown(valueAt(object, "spec.nodeName")) || "<none>", true),
  ],
  ConfigMap: [NAME, text("Data", dataCount), AGE],
  Secret: [NAME, at("Type", "type"), text("Data", dataCount), AGE],
  ServiceAccount: [NAME, text("Secrets", (object) => String(listAt(object, "secrets").length)), AGE],
  Event: [
    text("Last Seen", (object, now) =>
      since(object["lastTimestamp"] ?? valueAt(object, "metadata.creationTimestamp"), now),
    ),
    at("Type", "type"),
    at("Reason", "reason"),
    text("Object", (object) => eventObject(mapAt(object, "involvedObject"))),
    at("Message", "message"),
  ],
  Lease: [NAME, at("Holder", "spec.holderIdentity"), AGE],
  EndpointSlice: [
    NAME,
    at("AddressType", "addressType"),
    text("Ports", (object) => joined(listAt(object, "ports").map((port) => String(isMap(port) ? port["port"] : "")))),
    text("Endpoints", (object) => joined(listAt(object, "endpoints").flatMap(addresses))),
    AGE,
  ],
  Deployment: [
    NAME,
    text("Ready", (object) => `${count(object, "status.readyReplicas")}/${count(object, "spec.replicas")}`),
    text("Up-to-date", (object) => String(count(object, "status.updatedReplicas"))),
    text("Available", (object) => String(count(object, "status.availableReplicas"))),
    AGE,
  ],
  ServiceCIDR: [NAME, text("CIDRs", (object) => joined(listAt(mapAt(object, "spec"), "cidrs").map(String))), AGE],
  CustomResourceDefinition: [NAME, at("Created At", "metadata.creationTimestamp")],
};

function columnsOf(resource: Resource): readonly Column[] {
  if (!resource.custom) return BUILT_IN[resource.kind] ?? [NAME, AGE];
  if (resource.columns.length === 0) return [NAME, AGE];
  return [NAME, ...resource.columns.map(printed)];
}

function printed(column: PrinterColumn): Column {
  return {
    name: column.name,
    type: column.type,
    wide: false,
    cell: (object, now) => {
      const value = valueAt(object, column.path);
      if (column.type === "date") return since(value, now);
      return column.type === "integer" ? (value ?? null) : shown(value);
    },
  };
}

function shown(value: Json | undefined): string {
  if (value === undefined || value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function since(value: Json | undefined, now: number): string {
  const then = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isNaN(then) ? "<unknown>" : shortDuration(now - then);
}

function joined(values: readonly string[]): string {
  if (values.length === 0) return "<unset>";
  const more = values.length > 3 ? ` + ${values.length - 3} more...` : "";
  return values.slice(0, 3).join(",") + more;
}

function pairs(map: JsonMap): string {
  const said = Object.entries(map).map(([key, value]) => `${key}=${value}`);
  return said.length === 0 ? "<none>" : said.join(",");
}

function count(object: JsonMap, path: string): number {
  const value = valueAt(object, path);
  return typeof value === "number" ? value : 0;
}

function dataCount(object: JsonMap): string {
  return String(Object.keys(mapAt(object, "data")).length + Object.keys(mapAt(object, "binaryData")).length);
}

function servicePorts(object: JsonMap): string {
  const ports = listAt(mapAt(object, "spec"), "ports").filter(isMap);
  const said = ports.map(
    (port) => `${port["port"]}${port["nodePort"] ? `:${port["nodePort"]}` : ""}/${port["protocol"]}`,
  );
  return said.length === 0 ? "<none>" : said.join(",");
}

function containers(object: JsonMap): JsonMap[] {
  return listAt(mapAt(object, "status"), "containerStatuses").filter(isMap);
}

function podReady(object: JsonMap): string {
  const all = listAt(mapAt(object, "spec"), "containers").length;
  return `${containers(object).filter((container) => container["ready"] === true).length}/${all}`;
}

function podRestarts(object: JsonMap): string {
  return String(containers(object).reduce((sum, container) => sum + Number(container["restartCount"] ?? 0), 0));
}

function nodeStatus(object: JsonMap): string {
  const conditions = listAt(mapAt(object, "status"), "conditions").filter(isMap);
  const ready = conditions.find((condition) => condition["type"] === "Ready");
  return ready?.["status"] === "True" ? "Ready" : ready === undefined ? "Unknown" : "NotReady";
}

function addresses(endpoint: Json): string[] {
  return isMap(endpoint) ? listAt(endpoint, "addresses").map(String) : [];
}

function eventObject(object: JsonMap): string {
  return `${(textAt(object, "kind") ?? "").toLowerCase()}/${textAt(object, "name") ?? ""}`;
}
