import http, { type IncomingMessage } from "node:http";
import https, { type RequestOptions } from "node:https";
import { setTimeout as pause } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { backoffMs } from "../control/index.ts";
import { type KubeClient, KubeError, type KubeObject, type ResourceType, type WatchEvent } from "./kubernetes.ts";

export interface KubernetesOptions {
  /** A kubeconfig file; otherwise `KUBECONFIG`, `~/.kube/config`, or the pod's own account, as kubectl would. */
  readonly kubeconfig?: string;
  readonly context?: string;
  /** Use the account of the pod we run in. */
  readonly inCluster?: boolean;
}

const REQUEST_TIMEOUT_MS = 15_000;
/** The server ends a watch after this time; a connection that is silent for longer is dead. */
const WATCH_SECONDS = 240;
const WATCH_RETRY = { minMs: 500, maxMs: 15_000 } as const;
const MAX_BODY_BYTES = 64 * 1024 * 1024;
const PAGE = 500;
/** Connections to the API server: calls beyond wait for one. Watches hold one each. */
const MAX_CONNECTIONS = 48;

/**
 * Finds and reads the credentials.
 * @throws Error, one line, if there are none or the file cannot be read.
 */
export function loadKubeClient(options: KubernetesOptions): KubernetesClient {
  const config = new KubeConfig();
  if (options.inCluster === true) {
    // The library would go on with an address without a host.
    if (!process.env["KUBERNETES_SERVICE_HOST"]) throw new Error("this is no pod: KUBERNETES_SERVICE_HOST is not set");
    config.loadFromCluster();
  } else if (options.kubeconfig !== undefined) config.loadFromFile(options.kubeconfig);
  else config.loadFromDefault();
  if (options.context !== undefined) config.setCurrentContext(options.context);
  if (config.getCurrentCluster() === null) throw new Error("the kubeconfig names no cluster");
  return new KubernetesClient(config);
}

/**
 * The Kubernetes API over HTTPS and JSON. Credentials of every kind are client-node's work; requests and watches are
 * ours, because its generated classes know neither ExternalWorkloads nor a watch that resumes.
 */
export class KubernetesClient implements KubeClient {
  readonly #config: KubeConfig;

  constructor(config: KubeConfig) {
    this.#config = config;
  }

  async get<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
  ): Promise<T | undefined> {
    try {
      return await this.#call<T>("GET", path(type, namespace, name));
    } catch (error) {
      if (error instanceof KubeError && error.code === 404) return undefined;
      throw error;
    }
  }

  async list<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<readonly T[]> {
    return (await this.#listAll<T>(type, namespace, labelSelector)).items;
  }

  watch<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    listener: (event: WatchEvent<T>) => void,
    onProblem?: (error: KubeError) => void,
  ): () => void {
    const stopper = new AbortController();
    void this.#watchForEver(type, namespace, listener, onProblem ?? (() => {}), stopper.signal);
    return () => stopper.abort();
  }

  create<T extends KubeObject>(type: ResourceType, namespace: string | undefined, object: T): Promise<T> {
    return this.#call<T>("POST", path(type, namespace), object, "application/json");
  }

  update<T extends KubeObject>(type: ResourceType, namespace: string | undefined, object: T): Promise<T> {
    return this.#call<T>("PUT", path(type, namespace, object.metadata.name), object, "application/json");
  }

  apply<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    object: T,
    fieldManager: string,
    subresource?: "status",
  ): Promise<T> {
    const at = path(type, namespace, object.metadata.name) + (subresource === undefined ? "" : `/${subresource}`);
    const query = `?fieldManager=${encodeURIComponent(fieldManager)}&force=true`;
    // JSON is YAML. A PATCH that creates is authorised with the object's name, which a POST is not.
    return this.#call<T>("PATCH", at + query, object, "application/apply-patch+yaml");
  }

  async delete(type: ResourceType, namespace: string | undefined, name: string): Promise<void> {
    try {
      await this.#call("DELETE", path(type, namespace, name));
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== 404) throw error;
    }
  }

  async #listAll<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<{ readonly items: readonly T[]; readonly resourceVersion: string }> {
    const items: T[] = [];
    let next: string | undefined;
    let resourceVersion = "";
    do {
      const query = new URLSearchParams({ limit: String(PAGE) });
      if (labelSelector !== undefined) query.set("labelSelector", labelSelector);
      if (next !== undefined) query.set("continue", next);
      const page: ListPage<T> = await this.#call("GET", `${path(type, namespace)}?${query}`);
      // Items of a list carry neither kind nor version.
      const kind = page.kind.replace(/List$/, "");
      for (const item of page.items) items.push({ ...item, apiVersion: page.apiVersion, kind });
      resourceVersion = page.metadata.resourceVersion ?? "";
      next = page.metadata.continue === "" ? undefined : page.metadata.continue;
    } while (next !== undefined);
    return { items, resourceVersion };
  }

  async #watchForEver<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    listener: (event: WatchEvent<T>) => void,
    onProblem: (error: KubeError) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const known = new Map<string, T>();
    let version: string | undefined;
    for (let failures = 0; !signal.aborted; ) {
      try {
        if (version === undefined) {
          const { items, resourceVersion } = await this.#listAll<T>(type, namespace);
          if (signal.aborted) return;
          relist(items, known, listener);
          version = resourceVersion;
        }
        // A watch that has brought something was a good one, however it ends.
        const told = (event: WatchEvent<T>) => {
          failures = 0;
          listener(event);
        };
        version = await this.#watchOnce(type, namespace, version, known, told, signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        const problem = error instanceof KubeError ? error : new KubeError(0, "Unexpected", String(error));
        failures++;
        // 410: what we remember is older than what the server does. Nothing is wrong: list again, once without a pause.
        if (problem.code === 410) {
          version = undefined;
          if (failures === 1) continue;
        }
        onProblem(problem);
        if (problem.code >= 400) version = undefined;
        await pause(backoffMs(failures, WATCH_RETRY, Math.random), undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }

  /** One watch request, to its end. @returns the version to resume from. */
  async #watchOnce<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    from: string,
    known: Map<string, T>,
    listener: (event: WatchEvent<T>) => void,
    signal: AbortSignal,
  ): Promise<string> {
    const query = new URLSearchParams({
      watch: "1",
      resourceVersion: from,
      allowWatchBookmarks: "true",
      timeoutSeconds: String(WATCH_SECONDS),
    });
    const response = await this.#send("GET", `${path(type, namespace)}?${query}`, undefined, undefined, signal);
    response.setTimeout((WATCH_SECONDS + 30) * 1000, () => response.destroy(new Error("the watch fell silent")));
    if (response.statusCode !== 200) throw errorOf(response.statusCode ?? 0, await readAll(response));
    let version = from;
    for await (const line of lines(response)) {
      if (signal.aborted) break;
      const event = JSON.parse(line) as {
        type: string;
        object: T & { code?: number; reason?: string; message?: string };
      };
      if (event.type === "ERROR") {
        throw new KubeError(event.object.code ?? 500, event.object.reason ?? "Error", event.object.message ?? "watch");
      }
      version = event.object.metadata.resourceVersion ?? version;
      const key = `${event.object.metadata.namespace ?? ""}/${event.object.metadata.name}`;
      if (event.type === "DELETED") known.delete(key);
      else if (event.type === "ADDED" || event.type === "MODIFIED") known.set(key, event.object);
      else continue;
      listener({ type: event.type, object: event.object });
    }
    return version;
  }

  async #call<T>(method: string, at: string, body?: unknown, contentType?: string): Promise<T> {
    const end = performance.now() + REQUEST_TIMEOUT_MS;
    const left = () => AbortSignal.timeout(Math.max(1, Math.ceil(end - performance.now())));
    let response = await this.#send(method, at, body, contentType, left());
    let text = await readAll(response);
    // A server that is too busy has done nothing and says when to come back (priority and fairness, a restart).
    for (let waitMs = retryAfterMs(response); waitMs !== undefined; waitMs = retryAfterMs(response)) {
      if (performance.now() + waitMs >= end) break;
      await pause(waitMs, undefined, { ref: false });
      response = await this.#send(method, at, body, contentType, left());
      text = await readAll(response);
    }
    const { statusCode = 0 } = response;
    if (statusCode < 200 || statusCode > 299) throw errorOf(statusCode, text);
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw new KubeError(0, "BadAnswer", `the API server's answer is not JSON: ${String(error)}`);
    }
  }

  async #send(
    method: string,
    at: string,
    body: unknown,
    contentType: string | undefined,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const cluster = this.#config.getCurrentCluster();
    if (cluster === null) throw new KubeError(0, "NoCluster", "the kubeconfig names no cluster");
    const url = new URL(cluster.server.replace(/\/$/, "") + at);
    const options: RequestOptions = { method, signal, headers: { accept: "application/json" } };
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    try {
      // Reads a rotated token anew each time, and keeps one agent per cluster.
      await this.#config.applyToHTTPSOptions(options);
    } catch (error) {
      throw new KubeError(0, "Credentials", `the kubeconfig's credentials do not work: ${messageOf(error)}`);
    }
    if (payload !== undefined) {
      options.headers = { ...options.headers, "content-type": contentType, "content-length": payload.length };
    }
    keepConnections(options.agent);
    return new Promise((resolve, reject) => {
      const send = (again: boolean) => {
        const request = (url.protocol === "http:" ? http : https).request(url, options, resolve);
        request.on("error", (error) => {
          // The server let go of the connection just as we took it up again: it has seen nothing of this.
          if (again && request.reusedSocket && "code" in error && error.code === "ECONNRESET") send(false);
          else
            reject(new KubeError(0, "Unreachable", `the API server at ${url.host} does not answer: ${error.message}`));
        });
        request.end(payload);
      };
      send(method !== "POST");
    });
  }
}

/** How long to wait before the same request again; undefined: the answer is an answer. */
function retryAfterMs({ statusCode, headers }: IncomingMessage): number | undefined {
  const after = headers["retry-after"];
  if ((statusCode !== 429 && statusCode !== 503) || after === undefined || !/^\d{1,4}$/.test(after)) return undefined;
  return Math.max(100, Number(after) * 1000);
}

/** client-node's agents make a connection, and so a handshake, for every call: a thousand hosts' leases are 100 a second. */
function keepConnections(agent: RequestOptions["agent"]): void {
  if (!(agent instanceof http.Agent)) return;
  // Properties that every agent has, and its types leave out.
  const kept = agent as http.Agent & { keepAlive: boolean; readonly options: http.AgentOptions };
  if (kept.keepAlive) return;
  kept.keepAlive = true;
  kept.options.keepAlive = true;
  kept.maxSockets = MAX_CONNECTIONS;
}

interface ListPage<T> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items: readonly T[];
}

/** Tells the difference between what was known and a fresh list, so that nobody has to forget first. */
function relist<T extends KubeObject>(
  items: readonly T[],
  known: Map<string, T>,
  listener: (event: WatchEvent<T>) => void,
): void {
  const gone = new Map(known);
  for (const object of items) {
    const key = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
    gone.delete(key);
    const before = known.get(key);
    known.set(key, object);
    if (before === undefined) listener({ type: "ADDED", object });
    else if (before.metadata.resourceVersion !== object.metadata.resourceVersion)
      listener({ type: "MODIFIED", object });
  }
  for (const [key, object] of gone) {
    known.delete(key);
    listener({ type: "DELETED", object });
  }
  listener({ type: "SYNCED" });
}

function path(type: ResourceType, namespace: string | undefined, name?: string): string {
  const root = type.group === "" ? `/api/${type.version}` : `/apis/${type.group}/${type.version}`;
  const within = namespace === undefined ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}${within}/${type.plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

async function* lines(response: IncomingMessage): AsyncGenerator<string> {
  let rest = "";
  response.setEncoding("utf8");
  try {
    for await (const chunk of response) {
      const parts = (rest + chunk).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) if (part !== "") yield part;
    }
  } catch (error) {
    throw new KubeError(0, "Unreachable", `the watch broke off: ${messageOf(error)}`);
  }
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_BODY_BYTES) throw new Error("more than 64 MiB");
      chunks.push(chunk);
    }
  } catch (error) {
    response.destroy();
    throw new KubeError(0, "Unreachable", `the API server's answer broke off: ${messageOf(error)}`);
  }
  return Buffer.concat(chunks).toString();
}

/** A Status object, or whatever a proxy in between says. */
function errorOf(code: number, body: string): KubeError {
  try {
    const { reason, message } = JSON.parse(body) as { reason?: string; message?: string };
    return new KubeError(code, reason ?? `Http${code}`, message ?? `HTTP ${code}`);
  } catch {
    return new KubeError(code, `Http${code}`, `HTTP ${code}`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
