import {
  createServer as createHttpServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { KubeError, type KubeObject } from "../../bootstrap/enroller/kubernetes.ts";
import type { Resource } from "./catalog.ts";
import { coreVersions, group, groupList, resourceList, VERSION_INFO } from "./discovery.ts";
import { type JsonMap, listAt, mapAt, textAt } from "./json.ts";
import { jsonPatch } from "./json-patch.ts";
import { mergePatch } from "./merge-patch.ts";
import { type Access, ADMINISTRATOR, authorize, MASTERS, type User } from "./rbac.ts";
import { type Accept, asMap, mediaType, parseAccept, parseTarget, readBody, type Target } from "./request.ts";
import { both, parseFieldSelector, parseLabelSelector, type Selector } from "./selector.ts";
import { badRequest, failure, LabError, notFound } from "./status.ts";
import type { LabStore, WriteOptions } from "./store.ts";
import { strategicMerge } from "./strategic-merge.ts";
import { metadataOf, table } from "./table.ts";
import { LabTokens } from "./tokens.ts";
import { serveWatch } from "./watch.ts";

export interface ApiOptions {
  /** Where to listen: addresses with a port (0 for any free one), or the path of a unix socket. */
  readonly listen: readonly ({ readonly host: string; readonly port: number } | { readonly path: string })[];
  /** PEM; absent: plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** The administrator's bearer token; ServiceAccount tokens are good too. Absent: everybody may do everything. */
  readonly token?: string;
  /** Hears of every request that was judged by roles: by which rule it was allowed, or that it was not. */
  readonly onAccess?: (user: User, access: Access, rule: string | undefined) => void;
  /** Asked before anything else: true if it has answered, with a fault that a test wants to see survived. */
  readonly fault?: (request: IncomingMessage, response: ServerResponse) => boolean;
  /** Wall clock in milliseconds. */
  readonly now?: () => number;
}

export interface LabApi {
  readonly tokens: LabTokens;
  /** Ports in the order of `listen`; 0 for a unix socket. */
  readonly ports: readonly number[];
  /** Breaks off every watch and connection, as a restart would; the next ones are served. */
  cut(): void;
  /** Ends every watch and connection. */
  close(): Promise<void>;
}

/**
 * Serves a store as a Kubernetes API. The administrator may do everything, and may act as somebody else
 * (`Impersonate-User`, `Impersonate-Group`); a ServiceAccount may do what roles give it.
 *
 * @throws Error if an address cannot be listened on; nothing is left listening then.
 */
export async function startApi(store: LabStore, options: ApiOptions): Promise<LabApi> {
  const now = options.now ?? Date.now;
  const tokens = new LabTokens(store, now);
  const watches = new Set<() => void>();
  const handler = new Handler(store, tokens, options, watches, now);
  const listener: RequestListener = (request, response) => void handler.handle(request, response);
  const servers: Server[] = [];
  const close = async () => {
    for (const stop of [...watches]) stop();
    await Promise.all(servers.map((server) => closed(server)));
  };
  try {
    for (const place of options.listen) {
      const server = options.tls ? createHttpsServer({ ...options.tls }, listener) : createHttpServer(listener);
      servers.push(server);
      await listening(server, place);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const ports = servers.map((server) => (server.address() as AddressInfo | string | null) ?? "");
  const cut = () => {
    for (const server of servers) server.closeAllConnections();
  };
  return { tokens, ports: ports.map((address) => (typeof address === "string" ? 0 : address.port)), cut, close };
}

function listening(server: Server, place: ApiOptions["listen"][number]): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(place, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function closed(server: Server): Promise<void> {
  if (!server.listening) return Promise.resolve();
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

/** What is served besides resources. */
const OPENAPI_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

class Handler {
  readonly #store: LabStore;
  readonly #tokens: LabTokens;
  readonly #options: ApiOptions;
  readonly #watches: Set<() => void>;
  readonly #now: () => number;

  constructor(store: LabStore, tokens: LabTokens, options: ApiOptions, watches: Set<() => void>, now: () => number) {
    this.#store = store;
    this.#tokens = tokens;
    this.#options = options;
    this.#watches = watches;
    this.#now = now;
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      if (this.#options.fault?.(request, response) === true) return;
      const url = new URL(request.url ?? "/", "http://lab");
      const user = this.#authenticate(request, url.pathname);
      if (this.#plain(request, url.pathname, response)) return;
      const target = parseTarget(url.pathname);
      if (target === undefined) throw new LabError(404, "NotFound", "the server could not find the requested resource");
      this.#authorize(user, request, target, url.searchParams);
      await this.#serve(request, response, target, url.searchParams, user);
    } catch (error) {
      if (response.headersSent) response.destroy();
      else if (error instanceof KubeError) answer(response, error.code || 500, failure(error));
      else {
        const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
        answer(response, 500, failure(new LabError(500, "InternalError", `Internal error occurred: ${why}`)));
      }
    }
  }

  #authenticate(request: IncomingMessage, path: string): User {
    const { token: adminToken } = this.#options;
    const user = this.#bearer(request, adminToken, path);
    const acting = request.headers["impersonate-user"];
    if (user !== ADMINISTRATOR || typeof acting !== "string") return user;
    const groups = request.headersDistinct["impersonate-group"] ?? [];
    return { username: acting, groups: [...groups, ...groupsOf(acting), "system:authenticated"] };
  }

  #bearer(request: IncomingMessage, adminToken: string | undefined, path: string): User {
    if (adminToken === undefined || path === "/healthz" || path === "/readyz" || path === "/livez")
      return ADMINISTRATOR;
    const [scheme, token = ""] = (request.headers.authorization ?? "").split(" ");
    if (scheme === "Bearer" && token === adminToken) return ADMINISTRATOR;
    const review = scheme === "Bearer" ? this.#tokens.review(token) : undefined;
    if (review?.authenticated !== true) throw new LabError(401, "Unauthorized", "Unauthorized");
    return { username: review.username, groups: [...groupsOf(review.username), "system:authenticated"] };
  }

  /** @throws LabError 403 in the API server's words. */
  #authorize(user: User, request: IncomingMessage, target: Target, query: URLSearchParams): void {
    if (user.groups.includes(MASTERS)) return;
    const { type, namespace, name, subresource } = target;
    const base = {
      group: type.group,
      resource: subresource === undefined ? type.plural : `${type.plural}/${subresource}`,
      namespace,
      name,
    };
    // Who am I, and what may I do: everybody may ask.
    if (request.method === "POST" && /^selfsubject/.test(type.plural)) return;
    const verbs = [verbOf(request.method ?? "GET", name, query)];
    // A server-side apply that finds nothing creates.
    const applies = request.method === "PATCH" && mediaType(request).startsWith("application/apply-patch");
    if (applies && subresource === undefined && this.#exists(target) === false) verbs.push("create");
    for (const verb of verbs) {
      const access = { ...base, verb };
      const rule = authorize(this.#store, user, access);
      this.#options.onAccess?.(user, access, rule);
      if (rule !== undefined) continue;
      const where = namespace === undefined ? "at the cluster scope" : `in the namespace "${namespace}"`;
      const what = `cannot ${verb} resource "${base.resource}" in API group "${type.group}" ${where}`;
      const named = name === undefined ? "" : ` "${name}"`;
      const kind = type.group === "" ? type.plural : `${type.plural}.${type.group}`;
      throw new LabError(403, "Forbidden", `${kind}${named} is forbidden: User "${user.username}" ${what}`);
    }
  }

  #exists({ type, namespace, name }: Target): boolean {
    return name !== undefined && this.#store.get(type, namespace, name) !== undefined;
  }

  /** Health, version and discovery. */
  #plain(request: IncomingMessage, path: string, response: ServerResponse): boolean {
    if (request.method !== "GET") return false;
    if (path === "/healthz" || path === "/readyz" || path === "/livez") {
      response.writeHead(200, { "content-type": "text/plain" }).end("ok");
      return true;
    }
    if (path === "/openapi/v2") {
      // kubectl wants a document before it applies; an empty one makes it leave the checking to the server.
      response.writeHead(200, { "content-type": OPENAPI_TYPE }).end();
      return true;
    }
    const found = this.#discovery(path.replace(/\/$/, ""));
    if (found !== undefined) answer(response, 200, found);
    return found !== undefined;
  }

  #discovery(path: string): JsonMap | undefined {
    const resources = this.#store.resources();
    const [, root, ...rest] = path.split("/");
    if (path === "/version") return VERSION_INFO;
    if (path === "/api") return coreVersions();
    if (path === "/apis") return groupList(resources);
    if (root === "api" && rest.length === 1) return resourceList(resources, "", rest[0] ?? "");
    if (root === "apis" && rest.length === 1) return group(resources, rest[0] ?? "");
    if (root === "apis" && rest.length === 2) return resourceList(resources, rest[0] ?? "", rest[1] ?? "");
    return undefined;
  }

  async #serve(
    request: IncomingMessage,
    response: ServerResponse,
    target: Target,
    query: URLSearchParams,
    user: User,
  ): Promise<void> {
    if (request.method === "POST" && (await this.#question(request, response, target, user))) return;
    const resource = this.#store.resource(target.type);
    if (target.subresource !== undefined && !(target.subresource === "status" && resource.status)) {
      throw new LabError(404, "NotFound", "the server could not find the requested resource");
    }
    const accept = parseAccept(request.headers.accept, query);
    switch (request.method) {
      case "GET":
        if (target.name === undefined) this.#list(response, resource, target, query, accept);
        else this.#object(response, resource, accept, 200, this.#get(resource, target, target.name));
        return;
      case "POST":
        return this.#post(request, response, resource, target, query, accept, user);
      case "PUT":
        return this.#put(request, response, resource, target, query, accept, user);
      case "PATCH":
        return this.#patch(request, response, resource, target, query, accept, user);
      case "DELETE":
        return this.#delete(request, response, resource, target, query, user);
      default:
        throw new LabError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    }
  }

  /** Requests that are answered and not stored: tokens and reviews. */
  async #question(request: IncomingMessage, response: ServerResponse, target: Target, user: User): Promise<boolean> {
    const { group: name, plural } = target.type;
    if (name === "" && plural === "serviceaccounts" && target.subresource === "token") {
      const body = asMap(await readBody(request));
      answer(response, 201, this.#tokens.request(target.namespace ?? "", target.name ?? "", body));
      return true;
    }
    if (name === "authentication.k8s.io" && plural === "tokenreviews") {
      answer(response, 201, this.#tokens.reviewObject(asMap(await readBody(request))));
      return true;
    }
    if (name === "authorization.k8s.io" && plural.endsWith("subjectaccessreviews")) {
      const body = asMap(await readBody(request));
      answer(response, 201, { ...body, status: this.#reviewAccess(mapAt(body, "spec"), user) });
      return true;
    }
    return false;
  }

  /** `spec.user` and `spec.groups` in a SubjectAccessReview, whoever asks in a SelfSubjectAccessReview. */
  #reviewAccess(spec: JsonMap, self: User): JsonMap {
    const named = textAt(spec, "user");
    const groups = listAt(spec, "groups").filter((item) => typeof item === "string");
    const user = named === undefined ? self : { username: named, groups: [...groups, ...groupsOf(named)] };
    const asked = mapAt(spec, "resourceAttributes");
    const subresource = textAt(asked, "subresource");
    const resource = textAt(asked, "resource") ?? "";
    const rule = authorize(this.#store, user, {
      verb: textAt(asked, "verb") ?? "",
      group: textAt(asked, "group") ?? "",
      resource: subresource === undefined ? resource : `${resource}/${subresource}`,
      namespace: textAt(asked, "namespace"),
      name: textAt(asked, "name"),
    });
    return rule === undefined ? { allowed: false } : { allowed: true, reason: rule };
  }

  #get(resource: Resource, target: Target, name: string): KubeObject {
    const found = this.#store.get(target.type, target.namespace, name);
    if (found === undefined) throw notFound(resource.plural, resource.group, name);
    return found;
  }

  #list(response: ServerResponse, resource: Resource, target: Target, query: URLSearchParams, accept: Accept): void {
    const selector = selectorOf(resource, query);
    if (query.get("watch") === "true" || query.get("watch") === "1") {
      const seconds = Number(query.get("timeoutSeconds") ?? 0);
      const stop = serveWatch(
        this.#store,
        response,
        {
          type: target.type,
          namespace: target.namespace,
          selector,
          resourceVersion: query.get("resourceVersion") ?? undefined,
          bookmarks: query.get("allowWatchBookmarks") === "true",
          sendInitialEvents: query.get("sendInitialEvents") === "true",
          accept,
          timeoutMs: seconds > 0 ? seconds * 1000 : undefined,
        },
        this.#now,
      );
      this.#watches.add(stop);
      response.on("close", () => this.#watches.delete(stop));
      return;
    }
    const all = this.#store.list(target.type, target.namespace);
    const objects = selector ? all.filter((object) => selector(object as unknown as JsonMap)) : all;
    const version = String(this.#store.version);
    if (accept.table !== undefined) {
      answer(response, 200, table(resource, objects, version, accept.table, this.#now()));
      return;
    }
    if (accept.metadataOnly) {
      const items = objects.map((object) => metadataOf(object as unknown as JsonMap));
      const metadata = { resourceVersion: version };
      answer(response, 200, { kind: "PartialObjectMetadataList", apiVersion: "meta.k8s.io/v1", metadata, items });
      return;
    }
    answer(response, 200, {
      kind: `${resource.kind}List`,
      apiVersion: groupVersion(target),
      metadata: { resourceVersion: version },
      items: objects as unknown as JsonMap[],
    });
  }

  #object(response: ServerResponse, resource: Resource, accept: Accept, code: number, object: KubeObject): void {
    if (accept.metadataOnly) answer(response, code, metadataOf(object as unknown as JsonMap));
    else if (accept.table === undefined) answer(response, code, object as unknown as JsonMap);
    else {
      const version = object.metadata.resourceVersion ?? "";
      answer(response, code, table(resource, [object], version, accept.table, this.#now()));
    }
  }

  async #post(
    request: IncomingMessage,
    response: ServerResponse,
    resource: Resource,
    target: Target,
    query: URLSearchParams,
    accept: Accept,
    user: User,
  ): Promise<void> {
    if (target.name !== undefined) throw new LabError(405, "MethodNotAllowed", "POST is for collections");
    const object = objectOf(resource, target, asMap(await readBody(request)));
    const made = this.#store.create(target.type, target.namespace, object, writeOptions(request, target, query, user));
    this.#object(response, resource, accept, 201, made);
  }

  async #put(
    request: IncomingMessage,
    response: ServerResponse,
    resource: Resource,
    target: Target,
    query: URLSearchParams,
    accept: Accept,
    user: User,
  ): Promise<void> {
    const object = objectOf(resource, target, asMap(await readBody(request)));
    if (target.name === undefined || object.metadata.name !== target.name) {
      throw badRequest(
        `the name of the object (${object.metadata.name}) does not match the name on the URL (${target.name})`,
      );
    }
    const options = writeOptions(request, target, query, user);
    this.#object(response, resource, accept, 200, this.#store.update(target.type, target.namespace, object, options));
  }

  async #patch(
    request: IncomingMessage,
    response: ServerResponse,
    resource: Resource,
    target: Target,
    query: URLSearchParams,
    accept: Accept,
    user: User,
  ): Promise<void> {
    const { name } = target;
    if (name === undefined) throw new LabError(405, "MethodNotAllowed", "PATCH is for objects");
    const body = await readBody(request);
    const options = writeOptions(request, target, query, user);
    const media = mediaType(request);
    if (media === "application/apply-patch+yaml" || media === "application/apply-patch+cbor") {
      const manager = query.get("fieldManager");
      if (manager === null) throw badRequest("fieldManager is required for apply patch");
      const applied = asMap(body);
      const object = objectOf(resource, target, { ...applied, metadata: { ...mapAt(applied, "metadata"), name } });
      const force = query.get("force") === "true";
      const before = this.#store.get(target.type, target.namespace, name);
      const after = this.#store.apply(target.type, target.namespace, object, {
        ...options,
        fieldManager: manager,
        force,
      });
      this.#object(response, resource, accept, before === undefined ? 201 : 200, after);
      return;
    }
    const change = (live: JsonMap): JsonMap => {
      const shown = { ...live, apiVersion: groupVersion(target) };
      switch (media) {
        case "application/merge-patch+json":
          return asMap(mergePatch(shown, asMap(body)));
        case "application/json-patch+json":
          return jsonPatch(shown, body);
        case "application/strategic-merge-patch+json":
          // Only kinds that are compiled into an API server carry merge keys.
          if (!resource.custom) return strategicMerge(resource.kind, shown, asMap(body));
          break;
        default:
      }
      throw new LabError(415, "UnsupportedMediaType", `the body of the request was in an unknown format: ${media}`);
    };
    this.#object(
      response,
      resource,
      accept,
      200,
      this.#store.modify(target.type, target.namespace, name, change, options),
    );
  }

  async #delete(
    request: IncomingMessage,
    response: ServerResponse,
    resource: Resource,
    target: Target,
    query: URLSearchParams,
    user: User,
  ): Promise<void> {
    const length = Number(request.headers["content-length"] ?? 0);
    const body = length > 0 || request.headers["transfer-encoding"] !== undefined ? await readBody(request) : {};
    const dryRun = query.has("dryRun");
    if (target.name === undefined) {
      const selector = selectorOf(resource, query);
      for (const object of this.#store.list(target.type, target.namespace)) {
        if (selector !== undefined && !selector(object as unknown as JsonMap)) continue;
        this.#store.delete(target.type, object.metadata.namespace, object.metadata.name, { dryRun, user });
      }
      answer(response, 200, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" });
      return;
    }
    const wanted = mapAt(asMap(body), "preconditions");
    const [uid, resourceVersion] = [textAt(wanted, "uid"), textAt(wanted, "resourceVersion")];
    const object = this.#store.delete(target.type, target.namespace, target.name, {
      dryRun,
      user,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    });
    if (object.metadata.deletionTimestamp !== undefined) {
      answer(response, 200, object as unknown as JsonMap);
      return;
    }
    const details = { name: target.name, group: resource.group, kind: resource.plural, uid: object.metadata.uid ?? "" };
    answer(response, 200, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", details });
  }
}

function groupsOf(username: string): readonly string[] {
  const [, account, namespace] = /^system:(serviceaccount):([^:]+):/.exec(username) ?? [];
  return account === undefined ? [] : ["system:serviceaccounts", `system:serviceaccounts:${namespace}`];
}

function verbOf(method: string, name: string | undefined, query: URLSearchParams): string {
  switch (method) {
    case "POST":
      return "create";
    case "PUT":
      return "update";
    case "PATCH":
      return "patch";
    case "DELETE":
      return name === undefined ? "deletecollection" : "delete";
    default:
      if (query.get("watch") === "true" || query.get("watch") === "1") return "watch";
      return name === undefined ? "list" : "get";
  }
}

function groupVersion(target: Target): string {
  const { group: name, version } = target.type;
  return name === "" ? version : `${name}/${version}`;
}

function selectorOf(resource: Resource, query: URLSearchParams): Selector | undefined {
  const labels = query.get("labelSelector");
  const fields = query.get("fieldSelector");
  return both(
    labels === null || labels === "" ? undefined : parseLabelSelector(labels),
    fields === null || fields === "" ? undefined : parseFieldSelector(fields, resource.custom),
  );
}

function writeOptions(request: IncomingMessage, target: Target, query: URLSearchParams, user: User): WriteOptions {
  // A client that does not name itself is known by the first word of its user agent.
  const agent = (request.headers["user-agent"] ?? "unknown").split("/")[0] ?? "unknown";
  return {
    user,
    fieldManager: query.get("fieldManager") ?? agent,
    ...(target.subresource === "status" ? { subresource: "status" } : {}),
    ...(query.getAll("dryRun").includes("All") ? { dryRun: true } : {}),
  };
}

/** Checks that a body is an object of the kind that the path names. */
function objectOf(resource: Resource, target: Target, body: JsonMap): KubeObject {
  const { kind = resource.kind, apiVersion = groupVersion(target) } = body;
  if (kind !== resource.kind || apiVersion !== groupVersion(target)) {
    throw badRequest(
      `${apiVersion}, Kind=${kind} in body does not match ${groupVersion(target)}, Kind=${resource.kind}`,
    );
  }
  return { ...body, kind, apiVersion, metadata: mapAt(body, "metadata") } as unknown as KubeObject;
}

function answer(response: ServerResponse, code: number, body: JsonMap): void {
  const text = JSON.stringify(body);
  response.writeHead(code, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(`${text}`);
}
