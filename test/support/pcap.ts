/** Reads packet captures, as far as the tests ask: pcap files, Ethernet, IPv4 and IPv6, TCP put back in order. */
import { formatIp } from "../../src/proxy/core/address.ts";

const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
// draft-ietf-opsawg-pcap §4: the magic number says byte order and unit of time.
const MAGICS = new Set([0xa1b2c3d4, 0xa1b23c4d]);
const LINK_ETHERNET = 1;

const ETHER_IPV4 = 0x0800;
const ETHER_IPV6 = 0x86dd;
const ETHER_VLAN = 0x8100;
const PROTOCOL_TCP = 6;

const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;

/** One TCP segment as it was on the wire. */
export interface Segment {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly flags: { readonly syn: boolean; readonly ack: boolean; readonly fin: boolean; readonly rst: boolean };
  readonly payload: Buffer;
}

/** The two byte streams of one connection. */
export interface Stream {
  readonly client: string;
  readonly clientPort: number;
  readonly server: string;
  readonly serverPort: number;
  readonly fromClient: Buffer;
  readonly fromServer: Buffer;
}

/**
 * Splits a capture into its link-layer frames.
 * @throws Error for anything that is not a whole pcap file of Ethernet frames: a capture cut short proves nothing.
 */
export function readFrames(file: Buffer): Buffer[] {
  if (file.length < FILE_HEADER_BYTES) throw new Error("not a pcap file: too short");
  const little = MAGICS.has(file.readUInt32LE(0));
  if (!little && !MAGICS.has(file.readUInt32BE(0))) throw new Error("not a pcap file");
  const u32 = (at: number) => (little ? file.readUInt32LE(at) : file.readUInt32BE(at));
  if ((u32(20) & 0xffff) !== LINK_ETHERNET) throw new Error(`not a capture of Ethernet frames: link type ${u32(20)}`);
  const frames: Buffer[] = [];
  for (let at = FILE_HEADER_BYTES; at < file.length; ) {
    if (at + RECORD_HEADER_BYTES > file.length) throw new Error("the capture ends within a record");
    const captured = u32(at + 8);
    const original = u32(at + 12);
    if (captured < original) throw new Error(`a frame of ${original} bytes was captured with ${captured} only`);
    at += RECORD_HEADER_BYTES;
    if (at + captured > file.length) throw new Error("the capture ends within a frame");
    frames.push(file.subarray(at, at + captured));
    at += captured;
  }
  return frames;
}

/** The TCP segment in an Ethernet frame; undefined for everything else, fragments included. */
export function readSegment(frame: Buffer): Segment | undefined {
  if (frame.length < 14) return undefined;
  let at = 12;
  let type = frame.readUInt16BE(at);
  at += 2;
  if (type === ETHER_VLAN) {
    type = frame.readUInt16BE(at + 2);
    at += 4;
  }
  const packet = frame.subarray(at);
  if (type === ETHER_IPV4) return readIpv4(packet);
  if (type === ETHER_IPV6) return readIpv6(packet);
  return undefined;
}

function readIpv4(packet: Buffer): Segment | undefined {
  const [first = 0] = packet;
  const headerBytes = (first & 0x0f) * 4;
  const total = packet.readUInt16BE(2);
  const fragment = packet.readUInt16BE(6) & 0x3fff;
  if (packet[9] !== PROTOCOL_TCP || fragment !== 0) return undefined;
  const ip = (offset: number) => [...packet.subarray(offset, offset + 4)].join(".");
  // Short frames are padded: the length is IP's word. A segment that the card will cut up itself says 0.
  return readTcp(packet.subarray(headerBytes, total === 0 ? packet.length : total), ip(12), ip(16));
}

function readIpv6(packet: Buffer): Segment | undefined {
  if (packet[6] !== PROTOCOL_TCP) return undefined;
  const length = packet.readUInt16BE(4);
  const ip = (offset: number) =>
    formatIp({ version: 6, words: [0, 4, 8, 12].map((word) => packet.readUInt32BE(offset + word)) });
  return readTcp(packet.subarray(40, length === 0 ? packet.length : 40 + length), ip(8), ip(24));
}

function readTcp(bytes: Buffer, source: string, destination: string): Segment {
  const headerBytes = ((bytes[12] ?? 0) >> 4) * 4;
  const flags = bytes[13] ?? 0;
  return {
    source,
    sourcePort: bytes.readUInt16BE(0),
    destination,
    destinationPort: bytes.readUInt16BE(2),
    sequence: bytes.readUInt32BE(4),
    flags: {
      syn: (flags & SYN) !== 0,
      ack: (flags & ACK) !== 0,
      fin: (flags & FIN) !== 0,
      rst: (flags & RST) !== 0,
    },
    payload: bytes.subarray(headerBytes),
  };
}

/** The connections whose first SYN was captured. What was sent twice counts once; bytes behind a hole do not count. */
export function readStreams(segments: readonly Segment[]): Stream[] {
  const open = new Map<string, { first: Segment; fromClient: Half; fromServer: Half }>();
  const streams: { first: Segment; fromClient: Half; fromServer: Half }[] = [];
  for (const segment of segments) {
    const there = `${segment.source} ${segment.sourcePort} ${segment.destination} ${segment.destinationPort}`;
    const back = `${segment.destination} ${segment.destinationPort} ${segment.source} ${segment.sourcePort}`;
    const known = open.get(there);
    if (segment.flags.syn && !segment.flags.ack) {
      // The same SYN again, or a port used again.
      if (known !== undefined && known.first.sequence === segment.sequence) continue;
      const stream = { first: segment, fromClient: new Half(segment.sequence), fromServer: new Half(undefined) };
      open.set(there, stream);
      streams.push(stream);
    } else if (known !== undefined) {
      known.fromClient.add(segment);
    } else {
      open.get(back)?.fromServer.add(segment);
    }
  }
  return streams.map(({ first, fromClient, fromServer }) => ({
    client: first.source,
    clientPort: first.sourcePort,
    server: first.destination,
    serverPort: first.destinationPort,
    fromClient: fromClient.bytes(),
    fromServer: fromServer.bytes(),
  }));
}

/** One direction of a connection. */
class Half {
  #start: number | undefined;
  readonly #parts: { readonly at: number; readonly payload: Buffer }[] = [];

  /** @param syn - Sequence number of the SYN, if it is known already. */
  constructor(syn: number | undefined) {
    this.#start = syn;
  }

  add(segment: Segment): void {
    if (segment.flags.syn) this.#start ??= segment.sequence;
    if (this.#start === undefined || segment.payload.length === 0) return;
    // The SYN itself takes one number; the difference is right across the wrap, too (RFC 9293 §3.4).
    this.#parts.push({ at: (segment.sequence - this.#start - 1) >>> 0, payload: segment.payload });
  }

  bytes(): Buffer {
    const ordered = [...this.#parts].sort((left, right) => left.at - right.at);
    const whole: Buffer[] = [];
    let end = 0;
    for (const { at, payload } of ordered) {
      if (at > end) break;
      if (at + payload.length <= end) continue;
      whole.push(payload.subarray(end - at));
      end = at + payload.length;
    }
    return Buffer.concat(whole);
  }
}
