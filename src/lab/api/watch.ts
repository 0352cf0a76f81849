import type { ServerResponse } from "node:http";
import type { KubeObject, ResourceType } from "../../bootstrap/enroller/kubernetes.ts";
import type { Resource } from "./catalog.ts";
import type { JsonMap } from "./json.ts";
import type { Accept } from "./request.ts";
import type { Selector } from "./selector.ts";
import { failure, LabError } from "./status.ts";
import type { LabStore, StoreEvent } from "./store.ts";
import { metadataOf, table } from "./table.ts";

/** What a client wants to hear of. */
export interface WatchRequest {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly selector: Selector | undefined;
  /** As in the query: absent or `0` starts with all that is there. */
  readonly resourceVersion: string | undefined;
  readonly bookmarks: boolean;
  /** Send the present objects first, then a bookmark that says so. */
  readonly sendInitialEvents: boolean;
  readonly accept: Accept;
  readonly timeoutMs: number | undefined;
}

/** A bookmark a minute keeps the version of a quiet watch young enough to resume from. */
const BOOKMARK_MS = 60_000;

/** A client that does not read is cut off at so many unsent bytes, as an API server does; it will list again. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024;

/** Streams changes until the client leaves, the time is over, or `stopped` is called. Returns the way to stop. */
export function serveWatch(
  store: LabStore,
  response: ServerResponse,
  request: WatchRequest,
  now: () => number,
): () => void {
  const resource = store.resource(request.type);
  response.writeHead(200, { "content-type": "application/json" });
  response.flushHeaders();
  const send = (type: string, object: JsonMap) => {
    response.write(`${JSON.stringify({ type, object })}\n`);
    if (response.writableLength > MAX_UNSENT_BYTES) response.destroy();
  };
  const show = (type: string, object: KubeObject) => {
    const served = relabelled(resource, request.type.version, object);
    const { table: columns, metadataOnly } = request.accept;
    if (metadataOnly) send(type, metadataOf(served as unknown as JsonMap));
    else if (columns === undefined) send(type, served as unknown as JsonMap);
    else send(type, table(resource, [served], String(store.version), columns, now()));
  };
  const bookmark = (annotations: JsonMap = {}) => {
    const metadata = { resourceVersion: String(store.version), creationTimestamp: null, annotations };
    const bare = { kind: resource.kind, apiVersion: groupVersion(request.type), metadata };
    send("BOOKMARK", request.accept.metadataOnly ? metadataOf(bare) : bare);
  };
  const hear = (event: StoreEvent) => {
    if (event.resource !== resource) return;
    if (request.namespace !== undefined && event.object.metadata.namespace !== request.namespace) return;
    const type = seenAs(event, request.selector);
    if (type !== undefined) show(type, event.object);
  };

  const from = request.resourceVersion;
  const missed =
    from === undefined || from === "" || from === "0" || request.sendInitialEvents ? [] : store.since(Number(from));
  if (missed === undefined) {
    const why = `too old resource version: ${from} (${store.version})`;
    send("ERROR", failure(new LabError(410, "Expired", why)));
    response.end();
    return () => undefined;
  }
  if (from === undefined || from === "" || from === "0" || request.sendInitialEvents) {
    for (const object of store.list(request.type, request.namespace)) {
      if (request.selector === undefined || request.selector(object as unknown as JsonMap)) show("ADDED", object);
    }
    if (request.sendInitialEvents) bookmark({ "k8s.io/initial-events-end": "true" });
  }
  for (const event of missed) hear(event);

  const stopHearing = store.watch(hear);
  const beat = request.bookmarks ? setInterval(bookmark, BOOKMARK_MS) : undefined;
  const stop = () => {
    stopHearing();
    clearInterval(beat);
    clearTimeout(timer);
  };
  const end = () => {
    // First: a bookmark that is due in the same turn would be written after the end.
    stop();
    response.end();
  };
  const timer = request.timeoutMs === undefined ? undefined : setTimeout(end, request.timeoutMs);
  response.on("close", stop);
  return end;
}

/** What a change is to somebody who sees only what a selector lets through. */
function seenAs(event: StoreEvent, selector: Selector | undefined): StoreEvent["type"] | undefined {
  if (selector === undefined) return event.type;
  const matches = (object: KubeObject | undefined) => object !== undefined && selector(object as unknown as JsonMap);
  const before = matches(event.previous);
  const after = event.type !== "DELETED" && matches(event.object);
  if (before && after) return "MODIFIED";
  if (after) return "ADDED";
  return before ? "DELETED" : undefined;
}

function relabelled(resource: Resource, version: string, object: KubeObject): KubeObject {
  if (version === resource.versions[0]) return object;
  return { ...object, apiVersion: groupVersion({ group: resource.group, version, plural: resource.plural }) };
}

function groupVersion(type: ResourceType): string {
  return type.group === "" ? type.version : `${type.group}/${type.version}`;
}
