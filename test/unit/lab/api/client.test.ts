import { describe, expect, it } from "vitest";
import type { KubeObject, WatchEvent } from "../../../../src/bootstrap/enroller/kubernetes.ts";
import { LabKubeClient, LabStore, TYPES } from "../../../../src/lab/api/index.ts";

const config = (name: string, labels: Record<string, string> = {}): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, labels },
});

describe("LabKubeClient", () => {
  it("answers undefined for what is not there, and deletes it without complaint", async () => {
    const client = new LabKubeClient(new LabStore());
    expect(await client.get(TYPES.configMaps, "default", "none")).toBeUndefined();
    await client.delete(TYPES.configMaps, "default", "none");
  });

  it("lists by label", async () => {
    const client = new LabKubeClient(new LabStore());
    await client.create(TYPES.configMaps, "default", config("a", { x: "1" }));
    await client.create(TYPES.configMaps, "default", config("b", { x: "2" }));
    expect((await client.list(TYPES.configMaps, "default", "x=2")).map((object) => object.metadata.name)).toEqual([
      "b",
    ]);
  });

  it("rejects an update without a version or with an old one", async () => {
    const client = new LabKubeClient(new LabStore());
    const first = await client.create(TYPES.configMaps, "default", config("a"));
    await expect(client.update(TYPES.configMaps, "default", config("a"))).rejects.toMatchObject({ code: 409 });
    await client.update(TYPES.configMaps, "default", { ...first, metadata: { ...first.metadata, labels: { y: "1" } } });
    await expect(client.update(TYPES.configMaps, "default", first)).rejects.toMatchObject({
      code: 409,
      reason: "Conflict",
    });
  });

  it("watches: first what is there, then SYNCED, then changes, also those the listener makes", async () => {
    const store = new LabStore();
    const client = new LabKubeClient(store);
    store.create(TYPES.configMaps, "default", config("a"));
    const told: string[] = [];
    const stop = client.watch(TYPES.configMaps, "default", (event: WatchEvent<KubeObject>) => {
      told.push(event.type === "SYNCED" ? event.type : `${event.type} ${event.object.metadata.name}`);
      if (event.type === "ADDED" && event.object.metadata.name === "a")
        store.create(TYPES.configMaps, "default", config("b"));
    });
    expect(told).toEqual([]);
    await Promise.resolve();
    store.create(TYPES.configMaps, "kube-system", config("elsewhere"));
    store.delete(TYPES.configMaps, "default", "a");
    stop();
    store.delete(TYPES.configMaps, "default", "b");
    expect(told).toEqual(["ADDED a", "SYNCED", "ADDED b", "DELETED a"]);
  });
});
