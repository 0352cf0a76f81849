import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { KubeObject } from "../../../src/bootstrap/enroller/kubernetes.ts";
import { LabStore, TYPES } from "../../../src/lab/api/index.ts";
import type { Json, JsonMap } from "../../../src/lab/api/json.ts";
import { mergePatch } from "../../../src/lab/api/merge-patch.ts";
import { parseTarget } from "../../../src/lab/api/request.ts";

type Loose = KubeObject & { spec?: JsonMap };

const KIND = { group: "linkerd.io", version: "v1alpha2", plural: "serviceprofiles" };
const key = fc.constantFrom("a", "b", "c");
// No empty maps: a map that nobody puts anything into is one that nobody can own.
const tree = fc.letrec<{ value: Json; map: JsonMap }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.integer(),
    fc.string(),
    fc.array(fc.integer(), { maxLength: 3 }),
    tie("map"),
  ),
  map: fc.dictionary(key, tie("value"), { minKeys: 1, maxKeys: 3 }) as fc.Arbitrary<JsonMap>,
}));

const profile = (spec: JsonMap | undefined) =>
  ({
    apiVersion: "linkerd.io/v1alpha2",
    kind: "ServiceProfile",
    metadata: { name: "p" },
    ...(spec ? { spec } : {}),
  }) as Loose;

function apply(store: LabStore, fieldManager: string, spec: JsonMap | undefined): Loose {
  return store.apply(KIND, "default", profile(spec), { fieldManager, force: true });
}

describe("server-side apply", () => {
  it("of one manager leaves exactly what was applied last", () => {
    fc.assert(
      fc.property(fc.array(tree.map, { minLength: 1, maxLength: 4 }), (specs) => {
        const store = new LabStore();
        for (const spec of specs) apply(store, "one", spec);
        expect(store.get<Loose>(KIND, "default", "p")?.spec).toEqual(specs.at(-1));
      }),
    );
  });

  it("leaves nothing once every manager has let go", () => {
    fc.assert(
      fc.property(tree.map, tree.map, (first, second) => {
        const store = new LabStore();
        apply(store, "one", first);
        apply(store, "two", second);
        apply(store, "one", undefined);
        apply(store, "two", undefined);
        expect(store.get<Loose>(KIND, "default", "p")?.spec).toBeUndefined();
      }),
    );
  });

  it("keeps what another manager applied", () => {
    fc.assert(
      fc.property(tree.map, tree.map, (first, second) => {
        const store = new LabStore();
        apply(store, "one", first);
        apply(store, "two", second);
        apply(store, "one", undefined);
        expect(store.get<Loose>(KIND, "default", "p")?.spec).toEqual(second);
      }),
    );
  });

  it("is done once: the same again changes nothing", () => {
    fc.assert(
      fc.property(tree.map, (spec) => {
        const store = new LabStore();
        const version = apply(store, "one", spec).metadata.resourceVersion;
        expect(apply(store, "one", spec).metadata.resourceVersion).toBe(version);
      }),
    );
  });
});

describe("mergePatch", () => {
  it("is done once, too", () => {
    fc.assert(
      fc.property(tree.map, tree.map, (target, patch) => {
        const once = mergePatch(target, patch);
        expect(mergePatch(once, patch)).toEqual(once);
      }),
    );
  });
});

describe("the history", () => {
  it("replayed gives what the store holds", () => {
    const step = fc.record({ name: fc.constantFrom("x", "y", "z"), value: fc.option(fc.string(), { nil: undefined }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const store = new LabStore();
        const start = store.version;
        for (const { name, value } of steps) {
          const exists = store.get(TYPES.configMaps, "default", name) !== undefined;
          if (value === undefined && exists) store.delete(TYPES.configMaps, "default", name);
          if (value !== undefined) {
            const data = { apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data: { value } } as KubeObject;
            store.apply(TYPES.configMaps, "default", data, { fieldManager: "one", force: true });
          }
        }
        const replayed = new Map<string, KubeObject>();
        for (const { type, object } of store.since(start) ?? []) {
          if (type === "DELETED") replayed.delete(object.metadata.name);
          else replayed.set(object.metadata.name, object);
        }
        const byName = (a: KubeObject, b: KubeObject) => (a.metadata.name < b.metadata.name ? -1 : 1);
        expect([...replayed.values()].sort(byName)).toEqual(store.list(TYPES.configMaps, "default"));
      }),
    );
  });
});

describe("paths", () => {
  it("never throw anything but a refusal", () => {
    fc.assert(
      fc.property(fc.webPath(), (path) => {
        try {
          parseTarget(`/api${path}`);
        } catch (error) {
          expect((error as { code?: number }).code).toBe(400);
        }
      }),
    );
  });
});
