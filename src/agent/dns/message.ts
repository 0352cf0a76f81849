import { type Ip, parseIp } from "../../proxy/core/address.ts";
import type { ServiceRecord } from "./names.ts";

export const TYPE_A = 1;
export const TYPE_SOA = 6;
export const TYPE_AAAA = 28;
export const TYPE_SRV = 33;
const TYPE_OPT = 41;
const TYPE_ANY = 255;
const CLASS_IN = 1;

export const FORMAT_ERROR = 1;
export const SERVER_FAILURE = 2;
export const NAME_ERROR = 3;
const NOT_IMPLEMENTED = 4;
export const REFUSED = 5;
type Code = 0 | 1 | 2 | 3 | 4 | 5;

const HEADER_BYTES = 12;
/** The name of the question, at byte 12 (RFC 1035 §4.1.4). */
const QUESTION_NAME = Buffer.of(0xc0, HEADER_BYTES);
const SERVICE_WEIGHT = 100;
// RFC 1035 §4.2.1: what a client takes that does not say more.
const PLAIN_UDP_BYTES = 512;
// DNS flag day 2020: what passes every path unfragmented; a client that asks for more gets this.
const MAX_UDP_BYTES = 1232;
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
// A query has one OPT and perhaps a signature; more is somebody's joke.
const MAX_ADDITIONAL = 4;

/** A standard query with one question. */
export interface Query {
  readonly id: number;
  readonly recursion: boolean;
  /** Lower case, without the final dot; bytes as latin1. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** The question section as it came, letter case included: some clients check that it comes back. */
  readonly question: Buffer;
  /** What the client takes over UDP, bytes; undefined without EDNS, and then none may be in the reply. */
  readonly edns: number | undefined;
}

/**
 * Reads what a client sent.
 *
 * @returns the query; or the whole reply to one that cannot be served (malformed, or another opcode); undefined for
 *   what deserves no answer: a response, or too little to know whom to answer.
 * @throws Never: these bytes come from strangers.
 * @see RFC 1035 §4.1, RFC 6891 §6.1
 */
export function decodeQuery(message: Buffer): Query | Buffer | undefined {
  if (message.length < HEADER_BYTES) return undefined;
  const flags = message.readUInt16BE(2);
  // An answer to an answer would be a loop.
  if ((flags & 0x8000) !== 0) return undefined;
  const id = message.readUInt16BE(0);
  if ((flags & 0x7800) !== 0) return bareReply(id, flags, NOT_IMPLEMENTED);
  const malformed = () => bareReply(id, flags, FORMAT_ERROR);
  // One question; answers and authority belong into replies.
  if (message.readUInt16BE(4) !== 1 || message.readUInt16BE(6) !== 0 || message.readUInt16BE(8) !== 0) {
    return malformed();
  }
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = message[at];
    // A question never needs compression, and a pointer could lead in circles.
    if (length === undefined || length > MAX_LABEL_BYTES) return malformed();
    at++;
    if (length === 0) break;
    // A dot inside a label separates nothing (RFC 4343 §2.1).
    labels.push(message.toString("latin1", at, at + length).replaceAll(".", "\\056"));
    at += length;
    if (at - HEADER_BYTES > MAX_NAME_BYTES) return malformed();
  }
  if (at + 4 > message.length) return malformed();
  const end = at + 4;
  const edns = readEdns(message, end, message.readUInt16BE(10));
  if (edns === "malformed") return malformed();
  return {
    id,
    recursion: (flags & 0x0100) !== 0,
    name: labels.join(".").toLowerCase(),
    type: message.readUInt16BE(at),
    class: message.readUInt16BE(at + 2),
    question: message.subarray(HEADER_BYTES, end),
    edns,
  };
}

/** The size in the OPT record, if there is one. Other additional records are stepped over. */
function readEdns(message: Buffer, from: number, count: number): number | undefined | "malformed" {
  if (count > MAX_ADDITIONAL) return "malformed";
  let at = from;
  let edns: number | undefined;
  for (let i = 0; i < count; i++) {
    for (;;) {
      const length = message[at];
      if (length === undefined || length > MAX_LABEL_BYTES) return "malformed";
      at += 1 + length;
      if (length === 0) break;
    }
    if (at + 10 > message.length) return "malformed";
    if (message.readUInt16BE(at) === TYPE_OPT) {
      // RFC 6891 §6.1.1: more than one is an error.
      if (edns !== undefined) return "malformed";
      edns = message.readUInt16BE(at + 2);
    }
    at += 10 + message.readUInt16BE(at + 8);
    if (at > message.length) return "malformed";
  }
  return edns;
}

export interface Reply {
  readonly code: Code;
  /** IP texts of any family; those of the asked type are sent. */
  readonly addresses: readonly string[];
  readonly services: readonly ServiceRecord[];
  /** Of both. */
  readonly ttlSeconds: number;
  /**
   * The zone whose SOA goes along with an answer of nothing, so that resolvers may remember the nothing (RFC 2308
   * §3); a suffix of the name, undefined where we are not the authority.
   */
  readonly zone: string | undefined;
}

// How long "there is no such name" may be remembered: a Service that was just created should be found soon.
const NEGATIVE_TTL_SECONDS = 5;

/**
 * Writes a reply.
 *
 * @param stream - Over TCP, where size is no matter; over UDP a reply that does not fit says so and is asked for again.
 */
export function encodeReply(query: Query, reply: Reply, stream: boolean): Buffer {
  const records =
    query.class === CLASS_IN || query.class === 255
      ? [...addressRecords(query, reply), ...serviceRecords(query, reply)]
      : [];
  const authority = records.length === 0 && reply.zone !== undefined ? [soa(query, reply.zone)] : [];
  const limit = stream ? 0xffff : Math.min(MAX_UDP_BYTES, Math.max(PLAIN_UDP_BYTES, query.edns ?? 0));
  const additional = query.edns === undefined ? [] : [opt()];
  const whole = join(query, reply, false, records, authority, additional);
  return whole.length <= limit ? whole : join(query, reply, true, [], [], additional);
}

function join(
  query: Query,
  reply: Reply,
  truncated: boolean,
  answers: readonly Buffer[],
  authority: readonly Buffer[],
  additional: readonly Buffer[],
): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt16BE(query.id, 0);
  // A response; authoritative where we speak for a zone; recursion available, so that no client looks elsewhere.
  const authoritative = reply.zone === undefined ? 0 : 0x0400;
  const flags = 0x8080 | authoritative | (truncated ? 0x0200 : 0) | (query.recursion ? 0x0100 : 0) | reply.code;
  head.writeUInt16BE(flags, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(answers.length, 6);
  head.writeUInt16BE(authority.length, 8);
  head.writeUInt16BE(additional.length, 10);
  return Buffer.concat([head, query.question, ...answers, ...authority, ...additional]);
}

function addressRecords(query: Query, reply: Reply): readonly Buffer[] {
  const { type } = query;
  if (type !== TYPE_A && type !== TYPE_AAAA && type !== TYPE_ANY) return [];
  return reply.addresses
    .map(parseIp)
    .filter((ip) => ip !== undefined)
    .filter((ip) => type === TYPE_ANY || type === typeOf(ip))
    .map((ip) => {
      const data = Buffer.alloc(ip.words.length * 4);
      for (const [i, word] of ip.words.entries()) data.writeUInt32BE(word >>> 0, i * 4);
      return record(QUESTION_NAME, typeOf(ip), CLASS_IN, reply.ttlSeconds, data);
    });
}

/** RFC 2782. None is better than another: one priority, one weight. */
function serviceRecords(query: Query, reply: Reply): readonly Buffer[] {
  if (query.type !== TYPE_SRV && query.type !== TYPE_ANY) return [];
  const possible = reply.services.filter(({ target }) =>
    target.split(".").every((label) => label !== "" && label.length <= MAX_LABEL_BYTES),
  );
  return possible.map(({ port, target }) => {
    const numbers = Buffer.alloc(6);
    numbers.writeUInt16BE(SERVICE_WEIGHT, 2);
    numbers.writeUInt16BE(port & 0xffff, 4);
    // Not compressed: RFC 2782 forbids it.
    return record(QUESTION_NAME, TYPE_SRV, CLASS_IN, reply.ttlSeconds, Buffer.concat([numbers, wireName(target)]));
  });
}

function wireName(name: string): Buffer {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label, "latin1")]));
  return Buffer.concat([...labels, Buffer.of(0)]);
}

function typeOf(ip: Ip): number {
  return ip.version === 4 ? TYPE_A : TYPE_AAAA;
}

function soa(query: Query, zone: string): Buffer {
  // The zone is the end of the question's name, so a pointer into the question names it.
  const pointer = Buffer.alloc(2);
  pointer.writeUInt16BE(0xc000 | (HEADER_BYTES + query.question.length - 4 - wireLength(zone)), 0);
  const numbers = Buffer.alloc(20);
  // Serial, refresh, retry, expire, minimum: nobody transfers this zone; only the last one counts (RFC 2308 §4).
  for (const [i, value] of [1, 7200, 1800, 86_400, NEGATIVE_TTL_SECONDS].entries()) numbers.writeUInt32BE(value, i * 4);
  const label = (text: string) => Buffer.concat([Buffer.of(text.length), Buffer.from(text, "latin1"), pointer]);
  return record(
    pointer,
    TYPE_SOA,
    CLASS_IN,
    NEGATIVE_TTL_SECONDS,
    Buffer.concat([label("ns"), label("hostmaster"), numbers]),
  );
}

/** Bytes of a name on the wire: a length before each label and a zero at the end. */
function wireLength(name: string): number {
  return name === "" ? 1 : name.length + 2;
}

function opt(): Buffer {
  return record(Buffer.of(0), TYPE_OPT, MAX_UDP_BYTES, 0, Buffer.alloc(0));
}

function record(name: Buffer, type: number, klass: number, ttlSeconds: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(klass, 2);
  fixed.writeUInt32BE(ttlSeconds, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([name, fixed, data]);
}

/** A reply without a question: to one that could not be read. */
function bareReply(id: number, flags: number, code: Code): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt16BE(id, 0);
  head.writeUInt16BE(0x8080 | (flags & 0x7900) | code, 2);
  return head;
}
