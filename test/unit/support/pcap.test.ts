import { describe, expect, it } from "vitest";
import { readFrames, readSegment, readStreams } from "../../support/pcap.ts";
import { beginsWithTls, selectedVersion, TLS_1_3 } from "../../support/tls-records.ts";

function file(frames: readonly Buffer[], captured?: number): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt32LE(1, 20);
  const records = frames.map((frame) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(captured ?? frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return Buffer.concat([record, frame.subarray(0, captured)]);
  });
  return Buffer.concat([header, ...records]);
}

/** An Ethernet frame with IPv4 and TCP, padded as short ones are. */
function frame(
  from: readonly [string, number],
  to: readonly [string, number],
  sequence: number,
  flags: number,
  text = "",
) {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(from[1], 0);
  tcp.writeUInt16BE(to[1], 2);
  tcp.writeUInt32BE(sequence >>> 0, 4);
  tcp[12] = 0x50;
  tcp[13] = flags;
  const ip = Buffer.alloc(20);
  ip[0] = 0x45;
  ip.writeUInt16BE(40 + text.length, 2);
  ip[9] = 6;
  Buffer.from(from[0].split(".").map(Number)).copy(ip, 12);
  Buffer.from(to[0].split(".").map(Number)).copy(ip, 16);
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(0x0800, 12);
  return Buffer.concat([ethernet, ip, tcp, Buffer.from(text), Buffer.alloc(6)]);
}

const SYN = 2;
const ACK = 16;
const client = ["10.0.0.1", 40_000] as const;
const server = ["10.0.0.2", 4143] as const;

describe("the capture reader", () => {
  it("puts the streams of a connection together, across repetition, disorder and the wrap of numbers", () => {
    const frames = readFrames(
      file([
        frame(client, server, 0xffff_fffe, SYN),
        frame(client, server, 0xffff_fffe, SYN),
        frame(server, client, 99, SYN | ACK),
        frame(client, server, 3, ACK, "o, wor"),
        frame(client, server, 0xffff_ffff, ACK, "hell"),
        frame(client, server, 0xffff_ffff, ACK, "hello"),
        frame(server, client, 100, ACK, "hi"),
        frame(server, client, 103, ACK, "behind a hole"),
        frame(client, server, 9, ACK, "ld"),
      ]),
    );
    const segments = frames.map(readSegment).filter((segment) => segment !== undefined);
    expect(readStreams(segments)).toEqual([
      {
        client: client[0],
        clientPort: client[1],
        server: server[0],
        serverPort: server[1],
        fromClient: Buffer.from("hello, world"),
        fromServer: Buffer.from("hi"),
      },
    ]);
  });

  it("refuses what is no whole capture", () => {
    const whole = frame(client, server, 0, SYN);
    expect(() => readFrames(Buffer.alloc(24))).toThrow("not a pcap file");
    expect(() => readFrames(file([whole]).subarray(0, 60))).toThrow("ends within a frame");
    expect(() => readFrames(file([whole], 40))).toThrow("was captured with 40 only");
  });

  it("reads which version of TLS a server chose", () => {
    const hello = (extensions: string) => {
      const body = Buffer.from(`0303${"00".repeat(32)}00130100${extensions}`, "hex");
      const head = Buffer.of(22, 3, 3, 0, body.length + 4, 2, 0, 0, body.length);
      return Buffer.concat([head, body]);
    };
    expect(selectedVersion(hello("000e003300040000ffff002b00020304"))).toBe(TLS_1_3);
    expect(selectedVersion(hello("0000"))).toBe(0x0303);
    expect(selectedVersion(hello("000e003300040000ffff002b00020304").subarray(0, 40))).toBeUndefined();
    expect(beginsWithTls(Buffer.from("GET / HTTP/1.1"))).toBe(false);
  });
});
