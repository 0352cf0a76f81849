import { createSocket, type Socket } from "node:dgram";
import type { KubeObject } from "../bootstrap/enroller/kubernetes.ts";
import { type LabStore, TYPES } from "./api/index.ts";

const TYPE_A = 1;
const CLASS_IN = 1;
const NAME_ERROR = 3;
const REFUSED = 5;
const TTL_SECONDS = 5;
// RFC 1035 §4.2.1, over UDP and without EDNS.
const MAX_UDP_BYTES = 512;

interface Question {
  readonly id: number;
  readonly recursion: boolean;
  /** Lower case, without the final dot. */
  readonly name: string;
  readonly type: number;
  /** The question section, to be sent back as it came. */
  readonly bytes: Buffer;
}

/** Where a name leads: addresses, or undefined if there is no such name. */
export type Resolve = (name: string) => readonly string[] | undefined;

/**
 * The cluster's names: `SERVICE.NAMESPACE.svc.DOMAIN`, and `HOSTNAME.SERVICE.NAMESPACE.svc.DOMAIN` for the endpoints
 * of a headless Service.
 *
 * @returns IPv4 addresses, perhaps none; undefined if there is no such name.
 */
export function resolveIn(store: LabStore, clusterDomain: string): Resolve {
  const suffix = `.svc.${clusterDomain}`;
  return (name) => {
    if (!name.endsWith(suffix)) return undefined;
    const labels = name.slice(0, -suffix.length).split(".");
    const [hostname, service = "", namespace = ""] = labels.length === 3 ? labels : [undefined, ...labels];
    if (labels.length < 2 || labels.length > 3) return undefined;
    const found = store.get<ServiceLike>(TYPES.services, namespace, service);
    if (found === undefined) return undefined;
    const address = found.spec?.clusterIP;
    if (address !== undefined && address !== "None") return hostname === undefined ? [address] : undefined;
    const endpoints = readyEndpoints(store, namespace, service);
    if (hostname === undefined) return endpoints.flatMap((endpoint) => endpoint.addresses);
    const named = endpoints.filter((endpoint) => endpoint.hostname === hostname);
    return named.length === 0 ? undefined : named.flatMap((endpoint) => endpoint.addresses);
  };
}

interface ServiceLike extends KubeObject {
  readonly spec?: { readonly clusterIP?: string };
}

interface EndpointLike {
  readonly addresses: readonly string[];
  readonly hostname?: string;
  readonly conditions?: { readonly ready?: boolean };
}

interface SliceLike extends KubeObject {
  readonly addressType?: string;
  readonly endpoints?: readonly EndpointLike[];
}

function readyEndpoints(store: LabStore, namespace: string, service: string): EndpointLike[] {
  const slices = store.list<SliceLike>(TYPES.endpointSlices, namespace);
  return slices
    .filter(
      (slice) => slice.addressType === "IPv4" && slice.metadata.labels?.["kubernetes.io/service-name"] === service,
    )
    .flatMap((slice) => slice.endpoints ?? [])
    .filter((endpoint) => endpoint.conditions?.ready !== false);
}

/** The cluster's DNS server: answers for the cluster's domain, refuses everything else. Rejects if the port is taken. */
export async function startDns(host: string, port: number, clusterDomain: string, resolve: Resolve): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.on("message", (message, peer) => {
    const answer = answerTo(message, clusterDomain, resolve);
    if (answer !== undefined) socket.send(answer, peer.port, peer.address);
  });
  await new Promise<void>((bound, failed) => {
    socket.once("error", failed);
    socket.bind(port, host, () => {
      socket.off("error", failed);
      bound();
    });
  });
  // A client that closed its socket answers with ICMP; that is nobody's problem.
  socket.on("error", () => {});
  return socket;
}

/** The answer to a query, or undefined if it is none. RFC 1035 §4. */
export function answerTo(message: Buffer, clusterDomain: string, resolve: Resolve): Buffer | undefined {
  const question = parseQuestion(message);
  if (question === undefined) return undefined;
  const ours = question.name === clusterDomain || question.name.endsWith(`.${clusterDomain}`);
  if (!ours) return reply(question, REFUSED, []);
  const addresses = resolve(question.name);
  if (addresses === undefined) return reply(question, NAME_ERROR, []);
  return reply(question, 0, question.type === TYPE_A ? addresses : []);
}

function parseQuestion(message: Buffer): Question | undefined {
  // A standard query (QR and OPCODE zero) with one question.
  if (message.length < 17 || (message.readUInt8(2) & 0xf8) !== 0 || message.readUInt16BE(4) !== 1) return undefined;
  const labels: string[] = [];
  let at = 12;
  for (;;) {
    const length = message[at];
    // A question never needs compression: a pointer here is somebody's joke.
    if (length === undefined || length > 63) return undefined;
    at++;
    if (length === 0) break;
    labels.push(message.toString("latin1", at, at + length));
    at += length;
  }
  if (at + 4 > message.length) return undefined;
  return {
    id: message.readUInt16BE(0),
    recursion: (message.readUInt8(2) & 1) === 1,
    name: labels.join(".").toLowerCase(),
    type: message.readUInt16BE(at),
    bytes: message.subarray(12, at + 4),
  };
}

function reply(question: Question, code: number, addresses: readonly string[]): Buffer {
  const room = Math.floor((MAX_UDP_BYTES - 12 - question.bytes.length) / 16);
  const answers = addresses.slice(0, room).map((address) => {
    const record = Buffer.alloc(16);
    record.writeUInt16BE(0xc00c, 0); // the name of the question, at byte 12
    record.writeUInt16BE(TYPE_A, 2);
    record.writeUInt16BE(CLASS_IN, 4);
    record.writeUInt32BE(TTL_SECONDS, 6);
    record.writeUInt16BE(4, 10);
    for (const [index, part] of address.split(".").entries()) record.writeUInt8(Number(part), 12 + index);
    return record;
  });
  const head = Buffer.alloc(12);
  head.writeUInt16BE(question.id, 0);
  // Response, authoritative, recursion desired as asked and available, so that no resolver goes elsewhere.
  head.writeUInt16BE(0x8480 | (question.recursion ? 0x100 : 0) | code, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(answers.length, 6);
  return Buffer.concat([head, question.bytes, ...answers]);
}
