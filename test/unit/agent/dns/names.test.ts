import { beforeEach, describe, expect, it } from "vitest";
import { Names, type Resolution } from "../../../../src/agent/dns/index.ts";
import { FakeTime } from "../../../support/time.ts";

const WEB = "web.shop.svc.cluster.local";
const HOUR = 3_600_000;

let time: FakeTime;
let asked: string[];
let answer: (name: string) => Promise<Partial<Resolution> & Pick<Resolution, "exists">>;

beforeEach(() => {
  time = new FakeTime();
  asked = [];
  answer = async () => ({ exists: true, addresses: ["10.200.0.7"], ttlSeconds: 30 });
});

function names(stored?: string): Names {
  return new Names({
    resolve: async (name) => {
      asked.push(name);
      return { addresses: [], services: [], ttlSeconds: 30, ...(await answer(name)) };
    },
    clusterDomain: () => "cluster.local",
    clock: time,
    maxStaleMs: 24 * HOUR,
    stored,
  });
}

const away = () => Promise.reject(new Error("away"));

describe("names of the cluster", () => {
  it("are asked for once in their time, by however many programs", async () => {
    const known = names();
    await Promise.all([known.lookup(WEB), known.lookup(WEB), known.lookup(WEB)]);
    time.advance(20_000);
    expect(await known.lookup(WEB)).toEqual({
      kind: "found",
      addresses: ["10.200.0.7"],
      services: [],
      ttlSeconds: 10,
    });
    expect(asked).toEqual([WEB]);
    time.advance(11_000);
    await known.lookup(WEB);
    expect(asked).toEqual([WEB, WEB]);
  });

  it("that do not exist are asked for again soon", async () => {
    const known = names();
    answer = async () => ({ exists: false, addresses: [], ttlSeconds: 30 });
    expect(await known.lookup(WEB)).toEqual({ kind: "none" });
    answer = async () => ({ exists: true, addresses: ["10.200.0.8"], ttlSeconds: 30 });
    time.advance(5_000);
    expect(await known.lookup(WEB)).toMatchObject({ kind: "found", addresses: ["10.200.0.8"] });
  });

  it("say where a port is served, also after a restart, and from a file of before", async () => {
    const srv = `_http._tcp.${WEB}`;
    const services = [{ port: 80, target: WEB }];
    answer = async () => ({ exists: true, services });
    const first = names();
    expect(await first.lookup(srv)).toMatchObject({ kind: "found", addresses: [], services });
    first.save();
    time.advance(31_000);
    answer = async () => ({ exists: true, services: [{ port: 81, target: WEB }] });
    await first.lookup(srv);
    expect(first.changed).toBe(true);
    answer = away;
    expect(await names(first.save()).lookup(srv)).toMatchObject({ services: [{ port: 81, target: WEB }] });
    const old = { format: 1, names: [{ name: srv, addresses: [], saidAtMs: time.wallMs() }] };
    expect(await names(JSON.stringify(old)).lookup(srv)).toMatchObject({ kind: "found", services: [] });
    const lie = { format: 1, names: [{ name: srv, addresses: [], services: [null, 1, {}], saidAtMs: time.wallMs() }] };
    expect(await names(JSON.stringify(lie)).lookup(srv)).toMatchObject({ kind: "found", services: [] });
  });

  it("are remembered while the enroller is away, up to a limit, and across a restart", async () => {
    const first = names();
    await first.lookup(WEB);
    expect(first.changed).toBe(true);
    const stored = first.save();
    expect(first.changed).toBe(false);
    answer = away;
    time.advance(HOUR);
    expect(await first.lookup(WEB)).toEqual({
      kind: "found",
      addresses: ["10.200.0.7"],
      services: [],
      ttlSeconds: 5,
    });
    const second = names(stored);
    expect(await second.lookup(WEB)).toMatchObject({ kind: "found", addresses: ["10.200.0.7"] });
    time.advance(24 * HOUR);
    expect(await second.lookup(WEB)).toEqual({ kind: "failed" });
  });

  it("do not make every program wait for an enroller that is away", async () => {
    const known = names();
    await known.lookup(WEB);
    answer = away;
    time.advance(31_000);
    await known.lookup(WEB);
    asked = [];
    expect(known.lookup(WEB)).toMatchObject({ kind: "found" });
    expect(asked).toEqual([]);
    time.advance(2_000);
    await known.lookup(WEB);
    expect(asked).toEqual([WEB]);
  });

  it("that are unknown while the enroller is away fail, and are not remembered as failed", async () => {
    const known = names();
    answer = away;
    expect(await known.lookup(WEB)).toEqual({ kind: "failed" });
    answer = async () => ({ exists: true, addresses: [], ttlSeconds: 30 });
    expect(await known.lookup(WEB)).toMatchObject({ kind: "found", addresses: [] });
  });

  it.each([
    ["cluster.local", "found"],
    ["svc.cluster.local", "found"],
    ["shop.svc.cluster.local", "found"],
    ["a.b.c.shop.svc.cluster.local", "none"],
    ["web.shop.pod.cluster.local", "none"],
    ["we\\056b.shop.svc.cluster.local", "none"],
    ["-web.shop.svc.cluster.local", "none"],
  ])("need no question where the answer is plain: %s", async (name, kind) => {
    expect(await names().lookup(name)).toMatchObject({ kind });
    expect(asked).toEqual([]);
  });

  it("are bounded in number and in questions under way", async () => {
    const known = names();
    answer = () => new Promise(() => {});
    for (let i = 0; i < 256; i++) void known.lookup(`n${i}.shop.svc.cluster.local`);
    expect(await known.lookup(WEB)).toEqual({ kind: "failed" });
    expect(asked).toHaveLength(256);
    const many = names();
    answer = async () => ({ exists: true, addresses: ["10.0.0.1"], ttlSeconds: 30 });
    for (let i = 0; i < 4200; i++) await many.lookup(`n${i}.shop.svc.cluster.local`);
    expect(JSON.parse(many.save()).names).toHaveLength(4096);
  });

  it("start empty from what cannot be read", () => {
    for (const stored of ["", "{", "null", '{"format":2,"names":[]}', '{"format":1,"names":[{"name":1}]}']) {
      expect(JSON.parse(names(stored).save()).names).toEqual([]);
    }
  });

  it("end at the zone", () => {
    const known = names();
    expect(known.covers("cluster.local")).toBe(true);
    expect(known.covers(WEB)).toBe(true);
    expect(known.covers("xcluster.local")).toBe(false);
    expect(known.covers("example.org")).toBe(false);
  });
});
