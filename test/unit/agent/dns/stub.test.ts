import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { connect, createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DnsStub, Names } from "../../../../src/agent/dns/index.ts";
import { socketKind } from "../../../../src/agent/dns/socket-kind.ts";
import { TestLog } from "../../../support/log.ts";
import { FakeTime } from "../../../support/time.ts";

let stub: DnsStub;
let port: number;
let outcomes: string[];
let resolver: Resolver;
let addresses: readonly string[];

beforeEach(async () => {
  outcomes = [];
  addresses = ["10.200.0.7", "fd00::7"];
  const names = new Names({
    resolve: async (name) => {
      if (name.startsWith("broken.")) throw new Error("away");
      const services = name.startsWith("_") ? [{ port: 8080, target: "web.shop.svc.cluster.local" }] : [];
      const none = name.startsWith("_") || name.startsWith("no.");
      return { exists: !name.startsWith("no."), addresses: none ? [] : addresses, services, ttlSeconds: 30 };
    },
    clusterDomain: () => "cluster.local",
    clock: new FakeTime(),
    maxStaleMs: 1000,
  });
  stub = new DnsStub({ names, log: new TestLog(), count: (outcome) => outcomes.push(outcome) });
  port = await listenSomewhere(stub);
  resolver = new Resolver({ tries: 1 });
  resolver.setServers([`127.0.0.1:${port}`]);
});

afterEach(() => stub.close());

/** The port that is free for datagrams may be taken for streams: then another. */
async function listenSomewhere(on: DnsStub): Promise<number> {
  for (let left = 20; ; left--) {
    try {
      return (await on.listen([], [{ ip: "127.0.0.1", port: 0 }]))[0]?.port ?? 0;
    } catch (error) {
      if (left === 0 || (error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    }
  }
}

describe("the stub", () => {
  it("answers for the cluster domain and for nothing else", async () => {
    expect(await resolver.resolve4("WEB.shop.svc.cluster.local")).toEqual(["10.200.0.7"]);
    expect(await resolver.resolve6("web.shop.svc.cluster.local")).toEqual(["fd00::7"]);
    await expect(resolver.resolveTxt("web.shop.svc.cluster.local")).rejects.toMatchObject({ code: "ENODATA" });
    await expect(resolver.resolve4("no.shop.svc.cluster.local")).rejects.toMatchObject({ code: "ENOTFOUND" });
    await expect(resolver.resolve4("broken.shop.svc.cluster.local")).rejects.toMatchObject({ code: "ESERVFAIL" });
    await expect(resolver.resolve4("example.org")).rejects.toMatchObject({ code: "EREFUSED" });
    expect(outcomes).toEqual(["answered", "answered", "answered", "none", "failed", "refused"]);
  });

  it("says where a port is served", async () => {
    const srv = "_http._tcp.web.shop.svc.cluster.local";
    expect(await resolver.resolveSrv(srv)).toEqual([
      { name: "web.shop.svc.cluster.local", port: 8080, priority: 0, weight: 100, type: "SRV" },
    ]);
    await expect(resolver.resolve4(srv)).rejects.toMatchObject({ code: "ENODATA" });
    await expect(resolver.resolveSrv("web.shop.svc.cluster.local")).rejects.toMatchObject({ code: "ENODATA" });
  });

  it("sends a long answer over TCP", async () => {
    addresses = Array.from({ length: 200 }, (_, i) => `10.0.1.${i}`);
    expect((await resolver.resolve4("web.shop.svc.cluster.local")).toSorted()).toEqual(addresses.toSorted());
  });

  it("gives the addresses in turn", async () => {
    addresses = ["10.0.0.1", "10.0.0.2"];
    const [first] = await resolver.resolve4("web.shop.svc.cluster.local");
    const [second] = await resolver.resolve4("web.shop.svc.cluster.local");
    expect(new Set([first, second]).size).toBe(2);
  });

  it("survives garbage, over UDP and TCP", async () => {
    const socket = createSocket("udp4");
    for (const bytes of ["", "00", "ff".repeat(40), "abcd01000001000000000000c00c00010001"]) {
      socket.send(Buffer.from(bytes, "hex"), port, "127.0.0.1");
    }
    const cut = connect(port, "127.0.0.1");
    await new Promise((resolve) => {
      cut.once("close", resolve);
      cut.write(Buffer.from("ffff00", "hex"));
    });
    socket.close();
    expect(await resolver.resolve4("web.shop.svc.cluster.local")).toEqual(["10.200.0.7"]);
  });

  it("answers several queries of one stream, however they are cut", async () => {
    const name = Buffer.from("\x03web\x04shop\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01", "latin1");
    const query = (id: number) => {
      const head = Buffer.from("0000000001000001000000000000", "hex");
      head.writeUInt16BE(12 + name.length, 0);
      head.writeUInt16BE(id, 2);
      return Buffer.concat([head, name]);
    };
    const stream = connect({ port, host: "127.0.0.1", noDelay: true });
    const all = Buffer.concat(Array.from({ length: 40 }, (_, i) => query(i)));
    for (let at = 0; at < all.length; at += 7) stream.write(all.subarray(at, at + 7));
    let seen = Buffer.alloc(0);
    const ids = new Set<number>();
    await new Promise<void>((resolve) => {
      stream.on("data", (chunk: Buffer) => {
        seen = Buffer.concat([seen, chunk]);
        while (seen.length >= 2 && seen.length >= 2 + seen.readUInt16BE(0)) {
          ids.add(seen.readUInt16BE(2));
          seen = seen.subarray(2 + seen.readUInt16BE(0));
        }
        if (ids.size === 40) resolve();
      });
    });
    stream.destroy();
  });

  it("closes what it opened when one address cannot be had", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => taken.once("listening", resolve));
    const { port: busy } = taken.address() as { port: number };
    const names = new Names({
      resolve: () => Promise.reject(new Error()),
      clusterDomain: () => undefined,
      clock: new FakeTime(),
      maxStaleMs: 0,
    });
    const other = new DnsStub({ names, log: new TestLog() });
    await expect(other.listen([], [{ ip: "127.0.0.1", port: busy }])).rejects.toMatchObject({ code: "EADDRINUSE" });
    const free = createSocket("udp4");
    await new Promise<void>((resolve) => free.bind(busy, "127.0.0.1", resolve));
    free.close();
    taken.close();
  });
});

describe("a socket that was passed in", () => {
  it("is told apart by the kernel's tables", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const handle = (server as unknown as { _handle: { fd: number } })._handle;
    expect(socketKind(handle.fd)).toBe("tcp");
    server.close();
    expect(socketKind(0)).toBeUndefined();
    expect(socketKind(9_999)).toBeUndefined();
  });
});
