import { afterEach, describe, expect, it } from "vitest";
import type { KubeObject } from "../../../../src/bootstrap/enroller/kubernetes.ts";
import { type LabApi, LabStore, startApi, TYPES } from "../../../../src/lab/api/index.ts";

const open: LabApi[] = [];
afterEach(async () => {
  for (const api of open.splice(0)) await api.close();
});

async function serve(options: { token?: string; history?: number } = {}) {
  const store = new LabStore(options.history ? { history: options.history } : {});
  const api = await startApi(store, {
    listen: [{ host: "127.0.0.1", port: 0 }],
    ...(options.token ? { token: options.token } : {}),
  });
  open.push(api);
  const base = `http://127.0.0.1:${api.ports[0]}`;
  const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    fetch(base + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  return { store, api, base, call };
}

const CONFIGS = "/api/v1/namespaces/default/configmaps";
const config = (name: string, labels: Record<string, string> = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, labels },
});

async function* lines(response: Response): AsyncGenerator<{ type: string; object: Record<string, never> }> {
  let rest = "";
  for await (const chunk of response.body ?? []) {
    rest += Buffer.from(chunk).toString();
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      yield JSON.parse(rest.slice(0, end));
      rest = rest.slice(end + 1);
    }
  }
}

/** A body whose shape the assertion itself checks. */
const read = async (answer: Promise<Response>) => JSON.parse(await (await answer).text());

describe("the API over HTTP", () => {
  it("creates, reads, replaces and deletes", async () => {
    const { call } = await serve();
    expect((await call("POST", CONFIGS, config("a"))).status).toBe(201);
    expect((await call("POST", CONFIGS, config("a"))).status).toBe(409);
    expect((await call("PUT", `${CONFIGS}/a`, config("a", { x: "y" }))).status).toBe(200);
    expect((await call("PUT", `${CONFIGS}/a`, config("b"))).status).toBe(400);
    expect(await read(call("GET", `${CONFIGS}/a`))).toMatchObject({ metadata: { labels: { x: "y" } } });
    expect(await read(call("DELETE", `${CONFIGS}/a`))).toMatchObject({ kind: "Status", status: "Success" });
    expect(await read(call("GET", `${CONFIGS}/a`))).toMatchObject({ reason: "NotFound", code: 404 });
  });

  it("stores nothing on a dry run", async () => {
    const { call, store } = await serve();
    expect((await call("POST", `${CONFIGS}?dryRun=All`, config("a"))).status).toBe(201);
    expect(store.list(TYPES.configMaps)).toEqual([]);
  });

  it("refuses a body that is no JSON, of another kind, or too long", async () => {
    const { base, call } = await serve();
    expect((await fetch(base + CONFIGS, { method: "POST", body: "{" })).status).toBe(400);
    expect((await call("POST", CONFIGS, { apiVersion: "v1", kind: "Secret", metadata: { name: "a" } })).status).toBe(
      400,
    );
    expect((await fetch(base + CONFIGS, { method: "POST", body: " ".repeat(4 << 20) })).status).toBe(413);
  });

  it("shows tables with printer columns", async () => {
    const { call, store } = await serve();
    store.create(TYPES.configMaps, "default", config("a"));
    const table = await (
      await call("GET", CONFIGS, undefined, { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" })
    ).json();
    expect(table).toMatchObject({
      kind: "Table",
      rows: [{ cells: ["a", "0", expect.stringMatching(/^[0-5]s$/)], object: { kind: "PartialObjectMetadata" } }],
    });
    expect((await call("GET", CONFIGS, undefined, { accept: "application/vnd.kubernetes.protobuf" })).status).toBe(406);
  });

  it("shows metadata alone to controllers that ask for no more", async () => {
    const { call, store } = await serve();
    store.create(TYPES.configMaps, "default", { ...config("a", { x: "1" }), data: { secret: "s" } } as KubeObject);
    // client-go would rather have protobuf, and takes what comes.
    const wish = (as: string) => ({
      accept: ["vnd.kubernetes.protobuf", "json"].map((t) => `application/${t};as=${as};g=meta.k8s.io;v=v1`).join(","),
    });
    const only = { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1" };
    const list = await read(call("GET", CONFIGS, undefined, wish("PartialObjectMetadataList")));
    expect(list).toMatchObject({
      kind: "PartialObjectMetadataList",
      metadata: { resourceVersion: String(store.version) },
      items: [{ ...only, metadata: { name: "a", labels: { x: "1" } } }],
    });
    expect(list.items[0]).not.toHaveProperty("data");
    const one = await read(call("GET", `${CONFIGS}/a`, undefined, wish("PartialObjectMetadata")));
    expect(one).toMatchObject({ ...only, metadata: { name: "a" } });
    expect(one).not.toHaveProperty("data");
    const events = `${CONFIGS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true`;
    const seen: unknown[] = [];
    for await (const event of lines(await call("GET", events, undefined, wish("PartialObjectMetadata")))) {
      seen.push(event);
      if (event.type === "BOOKMARK") break;
    }
    const metadata = { annotations: { "k8s.io/initial-events-end": "true" } };
    expect(seen).toMatchObject([
      { type: "ADDED", object: { ...only, metadata: { name: "a" } } },
      { type: "BOOKMARK", object: { ...only, metadata } },
    ]);
  });

  it("streams changes from a version on, through a selector's eyes", async () => {
    const { call, store } = await serve();
    store.create(TYPES.configMaps, "default", config("a", { x: "1" }));
    const version = store.version;
    store.modify(TYPES.configMaps, "default", "a", (live) => ({
      ...live,
      metadata: { name: "a", labels: { x: "2" } },
    }));
    const response = await call("GET", `${CONFIGS}?watch=true&resourceVersion=${version}&labelSelector=x%3D1`);
    store.create(TYPES.configMaps, "default", config("b"));
    store.modify(TYPES.configMaps, "default", "b", (live) => ({
      ...live,
      metadata: { name: "b", labels: { x: "1" } },
    }));
    const seen: string[] = [];
    for await (const { type, object } of lines(response)) {
      seen.push(`${type} ${object["metadata"]?.["name"]}`);
      if (seen.length === 2) break;
    }
    expect(seen).toEqual(["DELETED a", "ADDED b"]);
  });

  it("says 410 to a watch that comes too late", async () => {
    const { call, store } = await serve({ history: 2 });
    const version = store.version;
    for (let index = 0; index < 9; index++) store.create(TYPES.configMaps, "default", config(`c${index}`));
    for await (const event of lines(await call("GET", `${CONFIGS}?watch=1&resourceVersion=${version}`))) {
      expect(event).toMatchObject({ type: "ERROR", object: { code: 410, reason: "Expired" } });
    }
  });

  it("starts a streaming list with what is there and a bookmark", async () => {
    const { call, store } = await serve();
    store.create(TYPES.configMaps, "default", config("a"));
    const response = await call("GET", `${CONFIGS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true`);
    const seen: string[] = [];
    for await (const { type } of lines(response)) {
      seen.push(type);
      if (type === "BOOKMARK") break;
    }
    expect(seen).toEqual(["ADDED", "BOOKMARK"]);
  });

  it("lets in the administrator and ServiceAccounts only", async () => {
    const { api, call } = await serve({ token: "secret" });
    const status = async (token: string) =>
      (await call("GET", CONFIGS, undefined, { authorization: `Bearer ${token}` })).status;
    expect((await call("GET", CONFIGS)).status).toBe(401);
    expect(await status("wrong")).toBe(401);
    expect(await status("secret")).toBe(200);
    // Known, but no role gives it anything.
    expect(await status(api.tokens.issue("default", "default").token)).toBe(403);
    expect(await status(api.tokens.issue("default", "default", ["elsewhere"]).token)).toBe(401);
    expect((await call("GET", "/readyz")).status).toBe(200);
  });

  it("issues and reviews tokens", async () => {
    const { call } = await serve();
    const request = {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { audiences: ["identity.l5d.io"] },
    };
    const issued = await read(call("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", request));
    const spec = { token: issued.status.token, audiences: ["identity.l5d.io"] };
    const review = await read(call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", { spec }));
    expect(review.status).toMatchObject({
      authenticated: true,
      user: { username: "system:serviceaccount:default:default" },
    });
  });

  it("offers discovery for every kind", async () => {
    const { call } = await serve();
    const groups = await read(call("GET", "/apis"));
    const gateway = groups.groups.find((group: { name: string }) => group.name === "gateway.networking.k8s.io");
    expect(gateway.preferredVersion.version).toBe("v1");
    const list = await read(call("GET", "/apis/workload.linkerd.io/v1beta1"));
    expect(list.resources.map((entry: { name: string }) => entry.name)).toEqual([
      "externalworkloads",
      "externalworkloads/status",
    ]);
    expect((await call("GET", "/apis/workload.linkerd.io/v1alpha1")).status).toBe(404);
  });
});
