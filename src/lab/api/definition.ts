import type { KubeObject } from "../../bootstrap/enroller/kubernetes.ts";
import type { PrinterColumn, Resource } from "./catalog.ts";
import { isMap, type Json, type JsonMap, listAt, mapAt, textAt } from "./json.ts";
import type { Schema } from "./schema.ts";

/** The CustomResourceDefinition of a kind that the lab knows from the start. */
export function definitionOf(resource: Resource): KubeObject {
  const columns: JsonMap[] = resource.columns.map((column) => ({
    name: column.name,
    type: column.type,
    jsonPath: `.${column.path}`,
  }));
  const schema: JsonMap = resource.schema
    ? schemaJson(resource.schema)
    : { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  const definition: JsonMap = {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${resource.plural}.${resource.group}` },
    spec: {
      group: resource.group,
      names: {
        kind: resource.kind,
        listKind: `${resource.kind}List`,
        plural: resource.plural,
        singular: resource.singular,
        shortNames: [...resource.shortNames],
        categories: [...resource.categories],
      },
      scope: resource.namespaced ? "Namespaced" : "Cluster",
      versions: resource.versions.map((name, index) => ({
        name,
        served: true,
        storage: index === 0,
        schema: { openAPIV3Schema: schema },
        additionalPrinterColumns: columns,
        ...(resource.status ? { subresources: { status: {} } } : {}),
      })),
    },
  };
  return definition as unknown as KubeObject;
}

function schemaJson(schema: Schema): JsonMap {
  return JSON.parse(JSON.stringify(schema)) as JsonMap;
}

/** What a CustomResourceDefinition defines, or undefined if it serves nothing. */
export function resourceOf(definition: JsonMap): Resource | undefined {
  const spec = mapAt(definition, "spec");
  const names = mapAt(spec, "names");
  const served = listAt(spec, "versions")
    .filter(isMap)
    .filter((version) => version["served"] === true);
  const stored = served.find((version) => version["storage"] === true) ?? served[0];
  const [group, plural, kind] = [textAt(spec, "group"), textAt(names, "plural"), textAt(names, "kind")];
  if (stored === undefined || group === undefined || plural === undefined || kind === undefined) return undefined;
  const rest = served.filter((version) => version !== stored);
  return {
    group,
    versions: [textAt(stored, "name") ?? "v1", ...rest.map((version) => textAt(version, "name") ?? "v1")],
    plural,
    singular: textAt(names, "singular") ?? kind.toLowerCase(),
    kind,
    shortNames: texts(listAt(names, "shortNames")),
    categories: texts(listAt(names, "categories")),
    namespaced: spec["scope"] === "Namespaced",
    status: isMap(mapAt(stored, "subresources")["status"]),
    custom: true,
    columns: columnsOf(listAt(stored, "additionalPrinterColumns")),
    ...schemaOf(mapAt(mapAt(stored, "schema"), "openAPIV3Schema")),
  };
}

function schemaOf(schema: JsonMap): { readonly schema?: Schema } {
  if (schema["type"] !== "object" || schema["x-kubernetes-preserve-unknown-fields"] === true) return {};
  // The same words as an OpenAPI schema; keywords that the lab does not know are not enforced.
  return { schema: schema as unknown as Schema };
}

function texts(values: readonly Json[]): string[] {
  return values.filter((value) => typeof value === "string");
}

function columnsOf(values: readonly Json[]): PrinterColumn[] {
  return values.filter(isMap).map((column) => ({
    name: textAt(column, "name") ?? "",
    path: (textAt(column, "jsonPath") ?? "").replace(/^\./, ""),
    type: column["type"] === "date" ? "date" : column["type"] === "integer" ? "integer" : "string",
  }));
}
