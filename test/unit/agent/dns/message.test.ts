import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeQuery, encodeReply, NAME_ERROR, type Query } from "../../../../src/agent/dns/index.ts";

function nameBytes(name: string): Buffer {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]));
  return Buffer.concat([...labels, Buffer.of(0)]);
}

function query(name: string, type = 1, edns?: number): Buffer {
  const head = Buffer.from("abcd01000001000000000000", "hex");
  if (edns !== undefined) head[11] = 1;
  const size = Buffer.alloc(2);
  size.writeUInt16BE(edns ?? 0);
  const opt = edns === undefined ? [] : [Buffer.of(0, 0, 41), size, Buffer.alloc(6)];
  return Buffer.concat([head, nameBytes(name), Buffer.of(0, type, 0, 1), ...opt]);
}

const read = (message: Buffer) => decodeQuery(message) as Query;
const zone = "cluster.local";
const found = (addresses: readonly string[]) => ({ code: 0, addresses, services: [], ttlSeconds: 30, zone }) as const;

describe("a query", () => {
  it("is read in lower case, and its question kept as it came", () => {
    const message = query("WEB.shop.svc.cluster.local", 28, 4096);
    expect(read(message)).toMatchObject({
      id: 0xabcd,
      recursion: true,
      name: "web.shop.svc.cluster.local",
      type: 28,
      class: 1,
      edns: 4096,
    });
    expect(read(message).question.toString("latin1")).toContain("WEB");
  });

  it("with a dot inside a label is another name than with one between labels", () => {
    const head = Buffer.from("abcd01000001000000000000", "hex");
    const bytes = Buffer.concat([head, Buffer.of(3), Buffer.from("a.b"), Buffer.of(0, 0, 1, 0, 1)]);
    expect(read(bytes).name).toBe("a\\056b");
  });

  it.each([
    ["two questions", "abcd01000002000000000000037765620000010001", 1],
    ["an answer beside the question", "abcd01000001000100000000037765620000010001", 1],
    ["a pointer", "abcd01000001000000000000c00c00010001", 1],
    ["a name that goes on beyond the end", "abcd010000010000000000003f7765", 1],
    ["no type", "abcd0100000100000000000003776562000001", 1],
    ["an additional record cut short", "abcd010000010000000000010377656200000100010000290400", 1],
    ["two OPT records", "abcd0100000100000000000203776562000001000100002904000000000000000000290400000000000000", 1],
    ["another opcode", "abcd29000001000000000000037765620000010001", 4],
  ])("with %s is refused", (_what, hex, code) => {
    const reply = decodeQuery(Buffer.from(hex, "hex"));
    if (!Buffer.isBuffer(reply)) throw new Error("expected a whole reply");
    expect(reply.readUInt16BE(0)).toBe(0xabcd);
    expect((reply[3] as number) & 0x0f).toBe(code);
    expect(reply).toHaveLength(12);
  });

  it("that is an answer, or too short to have an id, gets none", () => {
    expect(decodeQuery(Buffer.from("abcd81000001000000000000037765620000010001", "hex"))).toBeUndefined();
    expect(decodeQuery(Buffer.from("abcd01", "hex"))).toBeUndefined();
  });

  it("may be any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        const decoded = decodeQuery(Buffer.from(bytes));
        if (decoded === undefined || Buffer.isBuffer(decoded)) return;
        encodeReply(decoded, found(["10.0.0.1", "fd00::1"]), false);
      }),
    );
  });
});

describe("a reply", () => {
  it("gives the addresses of the asked family", () => {
    const v4 = encodeReply(read(query("web.shop.svc.cluster.local")), found(["10.200.0.7", "fd00::7"]), false);
    expect(v4.readUInt16BE(6)).toBe(1);
    expect(v4.subarray(-16).toString("hex")).toBe("c00c000100010000001e00040ac80007");
    const v6 = encodeReply(read(query("web.shop.svc.cluster.local", 28)), found(["10.200.0.7", "fd00::7"]), false);
    expect(v6.subarray(-28).toString("hex")).toBe("c00c001c00010000001e0010fd000000000000000000000000000007");
  });

  it("says where a port is served, to who asks for that", () => {
    const services = [
      { port: 8080, target: "a.web.shop.svc.cluster.local" },
      // What cannot be written is left out.
      { port: 8080, target: `${"a".repeat(64)}.web` },
      { port: 8080, target: "" },
    ];
    const name = "_http._tcp.web.shop.svc.cluster.local";
    const srv = encodeReply(read(query(name, 33)), { ...found([]), services }, false);
    expect(srv.readUInt16BE(6)).toBe(1);
    // Priority, weight and port (RFC 2782), and the target without a pointer.
    const target = nameBytes("a.web.shop.svc.cluster.local");
    expect(srv.subarray(-target.length - 6).toString("hex")).toBe(`000000641f90${target.toString("hex")}`);
    expect(srv.readUInt16BE(srv.length - target.length - 8)).toBe(6 + target.length);
    const a = encodeReply(read(query(name)), { ...found([]), services }, false);
    expect(a.readUInt16BE(6)).toBe(0);
    expect(a.readUInt16BE(8)).toBe(1);
  });

  it("of nothing carries the zone's SOA, named by a pointer into the question", () => {
    const message = query("nobody.shop.svc.cluster.local");
    const reply = encodeReply(read(message), { ...found([]), code: NAME_ERROR }, false);
    expect((reply[3] as number) & 0x0f).toBe(NAME_ERROR);
    expect(reply.readUInt16BE(8)).toBe(1);
    const at = reply.readUInt16BE(message.length) & 0x3fff;
    expect(reply.toString("latin1", at, at + 15)).toBe("\x07cluster\x05local\x00");
  });

  it("that does not fit into a datagram says so, and fits over TCP", () => {
    const many = Array.from({ length: 100 }, (_, i) => `10.0.0.${i}`);
    const asked = read(query("web.shop.svc.cluster.local"));
    const datagram = encodeReply(asked, found(many), false);
    expect((datagram[2] as number) & 0x02).toBe(0x02);
    expect(datagram.readUInt16BE(6)).toBe(0);
    const stream = encodeReply(asked, found(many), true);
    expect(stream.readUInt16BE(6)).toBe(100);
    const larger = encodeReply(read(query("web.shop.svc.cluster.local", 1, 4096)), found(many.slice(0, 60)), false);
    expect(larger.readUInt16BE(6)).toBe(60);
    expect(larger.readUInt16BE(10)).toBe(1);
    expect(larger.length).toBeLessThanOrEqual(1232);
  });
});
