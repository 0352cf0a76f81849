import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { destination, inbound, outbound } from "../../../../src/proto/index.ts";
import { type Cidr, parseCidr } from "../../../../src/proxy/core/address.ts";
import type { DiscoveryTarget } from "../../../../src/proxy/core/messages.ts";
import { DiscoveryClient, type DiscoveryMessage, Hub } from "../../../../src/proxy/discovery/index.ts";
import { Suspicion } from "../../../../src/proxy/outbound/suspicion.ts";
import { defaultInboundPolicy } from "../../../../src/proxy/policy/index.ts";
import { MemoryStore } from "../../../support/answer-store.ts";
import { type FakeCall, FakeGrpcClient } from "../../../support/grpc-client.ts";
import { TestLog } from "../../../support/log.ts";
import {
  add,
  anyone,
  balancer,
  detectServer,
  httpRule,
  meshed,
  only,
  outboundPolicy,
  type PolicyInit,
  type ProfileInit,
  podAddr,
  profile,
  remove,
  type ServerInit,
  server,
  servicePolicy,
  type UpdateInit,
  update,
} from "../../../support/mesh-messages.ts";
import { FakeTime } from "../../../support/time.ts";

const HOUR = 3_600_000;
const DEFAULT = defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 10_000, clusterNetworks: [] });

function make(options: { store?: MemoryStore; time?: FakeTime; connected?: boolean } = {}) {
  const time = options.time ?? new FakeTime();
  const store = options.store ?? new MemoryStore();
  const grpc = new FakeGrpcClient();
  const log = new TestLog();
  const link = { connected: options.connected ?? true };
  const hub = new Hub({
    destination: () => (link.connected ? grpc : undefined),
    policy: () => (link.connected ? grpc : undefined),
    contextToken: () => '{"ns":"shop"}',
    policyWorkload: () => '{"ns":"shop","external_workload":"vm"}',
    profileNetworks: () => [parseCidr("10.0.0.0/8") as Cidr],
    clock: time,
    timers: time,
    rng: () => 0,
    store,
    log,
  });
  return { time, store, grpc, log, hub, link };
}

type World = ReturnType<typeof make>;

/** A worker with its cache; messages are cloned as between threads. */
function worker({ hub, time }: World) {
  const messages: DiscoveryMessage[] = [];
  const side = hub.attachWorker((message) => {
    messages.push(structuredClone(message));
    client.receive(structuredClone(message));
  });
  const client: DiscoveryClient = new DiscoveryClient(
    { postMessage: (request) => side.receive(structuredClone(request)) },
    { clock: time, defaultInbound: () => DEFAULT, later: (piece) => void time.after(1, piece) },
  );
  return { client, messages, side };
}

const send = {
  server: (call: FakeCall, init: ServerInit = detectServer()) =>
    call.send(Buffer.from(toBinary(inbound.ServerSchema, server(init)))),
  policy: (call: FakeCall, init: PolicyInit = servicePolicy()) =>
    call.send(Buffer.from(toBinary(outbound.OutboundPolicySchema, outboundPolicy(init)))),
  profile: (call: FakeCall, init: ProfileInit = {}) =>
    call.send(Buffer.from(toBinary(destination.DestinationProfileSchema, profile(init)))),
  update: (call: FakeCall, init: UpdateInit) =>
    call.send(Buffer.from(toBinary(destination.UpdateSchema, update(init)))),
};

describe("hub, inbound", () => {
  it("asks for a port by workload, and passes the answer on", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.inbound(8080);
    const call = world.grpc.last("WatchPort");
    expect(call.path).toBe("/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort");
    const request = fromBinary(inbound.PortSpecSchema, call.requestBytes);
    expect([request.workload, request.port]).toEqual(['{"ns":"shop","external_workload":"vm"}', 8080]);
    send.server(call, detectServer({ authorizations: [meshed("a.b")] }));
    expect([handle.state, handle.current.source, handle.current.authorizations.length]).toEqual(["ready", "api", 2]);
  });

  it("says invalid for what makes no sense, and recovers", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.inbound(8080);
    send.server(world.grpc.last("WatchPort"), detectServer({ labels: {} }));
    expect(handle.current.source).toBe("invalid");
    expect(world.log.lines.filter((line) => line.startsWith("warn"))).toHaveLength(1);
    send.server(world.grpc.last("WatchPort"));
    expect(handle.current.source).toBe("api");
  });

  it("keeps the last policy while the controller is away, and retries NOT_FOUND", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.inbound(8080);
    send.server(world.grpc.last("WatchPort"));
    for (const code of [14, 5, 13]) {
      world.grpc.last("WatchPort").error(code, "away");
      world.time.advance(60_000);
    }
    expect(handle.current.source).toBe("api");
    expect(world.grpc.open("WatchPort")).toHaveLength(1);
  });

  it.each([3, 9])("code %d ends the watch; the default policy stays", (code) => {
    const world = make();
    const { client } = worker(world);
    const handle = client.inbound(8080);
    world.grpc.last("WatchPort").error(code, "no such port");
    expect([handle.state, handle.failure, handle.current]).toEqual(["failed", "refused", DEFAULT]);
    world.time.advance(HOUR);
    expect(world.grpc.calls).toHaveLength(1);
  });

  it("does not repeat what a reopened stream repeats", () => {
    const world = make();
    const { client, messages } = worker(world);
    client.inbound(8080);
    send.server(world.grpc.last("WatchPort"));
    messages.length = 0;
    world.grpc.last("WatchPort").end();
    world.time.advance(100);
    send.server(world.grpc.last("WatchPort"));
    expect(messages).toHaveLength(0);
    send.server(world.grpc.last("WatchPort"), detectServer({ authorizations: [anyone, anyone] }));
    expect(messages).toHaveLength(1);
  });

  it("says at once that there is no answer yet: who judges a connection waits for that, not for the control plane", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.inbound(8080);
    expect([handle.state, handle.why, handle.current]).toEqual(["failed", "no answer yet", DEFAULT]);
    send.server(world.grpc.last("WatchPort"));
    expect([handle.state, handle.current.source]).toEqual(["ready", "api"]);
  });

  it("watches declared ports from the start, whoever asks", () => {
    const world = make();
    world.hub.keepInbound([80, 443]);
    for (const call of world.grpc.open("WatchPort")) send.server(call);
    const { client, side } = worker(world);
    expect(client.inbound(80).state).toBe("ready");
    side.detach();
    expect(world.grpc.open("WatchPort")).toHaveLength(2);
    world.hub.keepInbound([443]);
    expect(world.grpc.open("WatchPort")).toHaveLength(1);
  });
});

describe("hub, outbound", () => {
  it("asks both controllers at once, and waits for both", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    const traffic = fromBinary(outbound.TrafficSpecSchema, world.grpc.last("Watch").requestBytes);
    expect(traffic.sourceWorkload).toBe('{"ns":"shop","external_workload":"vm"}');
    expect(traffic.target).toMatchObject({ case: "addr", value: { ip: { ip: { value: 0x0a000001 } }, port: 80 } });
    const get = fromBinary(destination.GetDestinationSchema, world.grpc.last("GetProfile").requestBytes);
    expect([get.path, get.contextToken, get.scheme]).toEqual(["10.0.0.1:80", '{"ns":"shop"}', ""]);
    send.policy(world.grpc.last("Watch"));
    expect(handle.state).toBe("pending");
    send.profile(world.grpc.last("GetProfile"), { fullyQualifiedName: "web.shop.svc.cluster.local" });
    expect([handle.state, handle.current?.policy.kind]).toEqual(["ready", "detect"]);
    expect(handle.current?.profile?.logicalName).toBe("web.shop.svc.cluster.local");
  });

  it("asks for no profile outside the cluster's networks", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("203.0.113.1", 80);
    expect(world.grpc.open("GetProfile")).toHaveLength(0);
    send.policy(world.grpc.last("Watch"));
    expect([handle.state, handle.current?.profile]).toEqual(["ready", undefined]);
  });

  it.each([
    [5, "endpoint"],
    [12, "endpoint"],
  ])("code %d of the policy and a profile: %s, which follows the profile", (code, source) => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 8080);
    world.grpc.last("Watch").error(code, "unknown");
    expect(handle.state).toBe("pending");
    send.profile(world.grpc.last("GetProfile"), { endpoint: podAddr("10.0.0.1") });
    expect(handle.current?.policy.source).toBe(source);
    send.profile(world.grpc.last("GetProfile"), { endpoint: podAddr("10.0.0.1"), opaqueProtocol: true });
    expect(handle.current?.policy.kind).toBe("opaque");
  });

  it("no policy and no profile: fallback", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 8080);
    world.grpc.last("Watch").error(5, "unknown");
    world.grpc.last("GetProfile").error(3, "no");
    expect([handle.state, handle.current?.policy.source]).toEqual(["ready", "fallback"]);
  });

  it("NOT_FOUND of the profile is retried", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 8080);
    send.policy(world.grpc.last("Watch"));
    world.grpc.last("GetProfile").error(5, "not yet");
    world.time.advance(100);
    expect(handle.state).toBe("pending");
    send.profile(world.grpc.last("GetProfile"));
    expect(handle.state).toBe("ready");
  });

  it.each([3, 9])("code %d of the policy: failed, and not asked again", (code) => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    send.profile(world.grpc.last("GetProfile"));
    world.grpc.last("Watch").error(code, "bad");
    expect([handle.state, handle.failure, handle.why]).toEqual(["failed", "refused", "bad"]);
    world.time.advance(60_000);
    expect(world.grpc.calls.filter(({ path }) => path.endsWith("/Watch"))).toHaveLength(1);
  });

  it("takes a ServiceProfile that appears later at once, and its end", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    send.policy(world.grpc.last("Watch"));
    send.profile(world.grpc.last("GetProfile"));
    expect(handle.current?.policy.http1?.select).toBe("best");
    const routes = [{ condition: { match: { case: "path" as const, value: { regex: "/a" } } } }];
    send.profile(world.grpc.last("GetProfile"), { fullyQualifiedName: "web.shop.svc.cluster.local", routes });
    expect(handle.current?.policy.http1).toMatchObject({
      select: "first",
      canonical: "web.shop.svc.cluster.local:80",
    });
    send.profile(world.grpc.last("GetProfile"));
    expect(handle.current?.policy.http1?.select).toBe("best");
  });

  it("keeps a policy that is later refused", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("203.0.113.1", 80);
    send.policy(world.grpc.last("Watch"));
    world.grpc.last("Watch").error(5, "gone");
    world.time.advance(HOUR);
    expect([handle.state, handle.current?.policy.source]).toEqual(["ready", "api"]);
    expect(world.grpc.calls).toHaveLength(1);
  });

  it("an invalid policy fails requests, not discovery", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("203.0.113.1", 80);
    send.policy(world.grpc.last("Watch"), {});
    expect([handle.state, handle.current?.policy.source]).toEqual(["ready", "invalid"]);
  });

  it("an unknown destination fails after a bounded wait, and recovers", () => {
    const world = make({ connected: false });
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    world.time.advance(9_999);
    expect(handle.state).toBe("pending");
    world.time.advance(1);
    expect([handle.state, handle.failure]).toEqual(["failed", "unreachable"]);
    world.link.connected = true;
    world.hub.retryNow();
    send.policy(world.grpc.last("Watch"));
    send.profile(world.grpc.last("GetProfile"));
    expect(handle.state).toBe("ready");
  });

  it("a policy alone serves when the profile does not come in time", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    world.time.advance(1_000);
    send.policy(world.grpc.last("Watch"));
    world.time.advance(2_999);
    expect(handle.state).toBe("pending");
    world.time.advance(1);
    expect([handle.state, handle.current?.policy.source]).toEqual(["ready", "api"]);
  });

  it("without a policy the profile is waited for to the end", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    world.grpc.last("Watch").error(5, "none");
    world.time.advance(9_999);
    expect(handle.state).toBe("pending");
    world.time.advance(1);
    expect([handle.state, handle.failure]).toEqual(["failed", "unreachable"]);
  });

  it("a profile alone does not: plaintext to an unknown pod would be a guess", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    send.profile(world.grpc.last("GetProfile"), { endpoint: podAddr("10.0.0.1") });
    world.time.advance(10_000);
    expect([handle.state, handle.failure]).toEqual(["failed", "unreachable"]);
  });
});

describe("hub, endpoints", () => {
  const ips = (handle: { current: ReadonlyMap<string, unknown> }) =>
    [...handle.current.keys()].map((key) => key.split(":")[0]);

  it("sends differences", () => {
    const world = make();
    const { client, messages } = worker(world);
    const handle = client.endpoints("web.shop.svc.cluster.local:80");
    const get = fromBinary(destination.GetDestinationSchema, world.grpc.last("Get").requestBytes);
    expect(get.path).toBe("web.shop.svc.cluster.local:80");
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1"), podAddr("10.0.0.2")));
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.3")));
    send.update(world.grpc.last("Get"), remove("10.0.0.1"));
    expect(ips(handle)).toEqual(["10.0.0.2", "10.0.0.3"]);
    const sizes = messages.map((each) => each.type === "discovery.endpoints" && [each.add.length, each.remove.length]);
    expect(sizes).toEqual([
      [2, 0],
      [1, 0],
      [0, 1],
    ]);
  });

  it("replaces by the first add after a reconnect, as a difference", () => {
    const world = make();
    const { client, messages } = worker(world);
    const handle = client.endpoints("a.b:80");
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1"), podAddr("10.0.0.2")));
    world.grpc.last("Get").error(14, "gone");
    expect(ips(handle)).toHaveLength(2);
    world.time.advance(100);
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.2"), podAddr("10.0.0.3")));
    expect(ips(handle)).toEqual(["10.0.0.2", "10.0.0.3"]);
    const changes = messages
      .slice(1)
      .map((each) => each.type === "discovery.endpoints" && [each.reset, each.add.length, each.remove.length]);
    expect(changes).toEqual([
      [false, 1, 0],
      [false, 0, 1],
    ]);
  });

  it("heals within 15 s when a stream stays open and says nothing more", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.endpoints("a.b:80");
    const silent = world.grpc.last("Get");
    send.update(silent, add(podAddr("10.0.0.1")));
    world.time.advance(60_000);
    const brokeAt = world.time.now();
    // The pod is gone, and nobody says so. The balancer finds that it cannot be reached, again and again.
    const suspicion = new Suspicion(handle);
    while (world.grpc.last("Get") === silent && world.time.now() - brokeAt < 15_000) {
      suspicion.failed("10.0.0.1:8080", world.time.now());
      world.time.advance(500);
    }
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.9")));
    expect(ips(handle)).toEqual(["10.0.0.9"]);
    expect(world.time.now() - brokeAt).toBeLessThan(5_000);
  });

  it.each(["policy", "profile"] as const)("heals within 15 s when the %s falls silent on an open stream", (silent) => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    const [watch, getProfile] = [world.grpc.last("Watch"), world.grpc.last("GetProfile")];
    if (silent === "policy") send.policy(watch);
    else watch.error(5, "no Service");
    send.profile(getProfile, { endpoint: podAddr("10.0.0.1") });
    expect(handle.state).toBe("ready");
    const before = handle.current;
    world.time.advance(60_000);
    const brokeAt = world.time.now();
    // Where the answer leads nobody answers any more, and nobody says so.
    const suspicion = new Suspicion(handle);
    const call = silent === "policy" ? watch : getProfile;
    const name = silent === "policy" ? "Watch" : "GetProfile";
    while (world.grpc.last(name) === call && world.time.now() - brokeAt < 15_000) {
      suspicion.failed("10.0.0.1:8080", world.time.now());
      world.time.advance(500);
    }
    expect(world.grpc.last("GetProfile")).not.toBe(getProfile);
    // Until there is another answer the last one holds.
    expect(handle.current).toBe(before);
    if (silent === "policy")
      send.policy(world.grpc.last("Watch"), servicePolicy(httpRule({ backends: only(balancer("b.c:80")) })));
    else
      send.profile(world.grpc.last("GetProfile"), {
        endpoint: podAddr("10.0.0.1", { metricLabels: { pod: "another" } }),
      });
    expect(handle.current).not.toEqual(before);
    expect(world.time.now() - brokeAt).toBeLessThan(5_000);
  });

  it("asks again about a Service that did not exist when its address leads nowhere", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.outbound("10.0.0.1", 80);
    world.grpc.last("Watch").error(5, "no Service");
    send.profile(world.grpc.last("GetProfile"));
    world.time.advance(60_000);
    handle.suspect();
    send.policy(world.grpc.last("Watch"));
    expect(handle.current?.policy.source).toBe("api");
  });

  it("asks again ever less often about endpoints that are rightly named and do not work", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.endpoints("a.b:80");
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1")));
    for (let second = 0; second < 600; second++) {
      world.time.advance(1_000);
      handle.suspect();
      const call = world.grpc.last("Get");
      if (call.cancelled) continue;
      send.update(call, add(podAddr("10.0.0.1")));
    }
    expect(world.grpc.calls.length).toBeLessThan(12);
    expect(ips(handle)).toEqual(["10.0.0.1"]);
  });

  it("takes 5,000 endpoints in parts, and what follows them after", () => {
    const world = make();
    const { client, messages } = worker(world);
    const handle = client.endpoints("a.b:80");
    const at = (i: number) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
    send.update(world.grpc.last("Get"), add(podAddr("10.9.9.9")));
    world.grpc.last("Get").error(14, "gone");
    world.time.advance(100);
    send.update(world.grpc.last("Get"), add(...Array.from({ length: 5_000 }, (_, i) => podAddr(at(i)))));
    send.update(world.grpc.last("Get"), remove(at(7)));
    expect(handle.current.size).toBe(1);
    for (let ms = 0; ms < 400; ms++) world.time.advance(1);
    expect(handle.current.size).toBe(4_999);
    expect(ips(handle)).not.toContain("10.9.9.9");
    for (const each of messages) if (each.type === "discovery.endpoints") expect(each.add.length).toBeLessThan(1_000);
  });

  it("stays silent about a Service that has none, and leaves the question open", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.endpoints("a.b:80");
    send.update(world.grpc.last("Get"), add());
    world.time.advance(29_000);
    expect([handle.state, world.grpc.calls.length]).toEqual(["pending", 1]);
  });

  it("fails for good on a path that the controller refuses", () => {
    const world = make();
    const { client } = worker(world);
    const handle = client.endpoints("10.0.0.1:80");
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1")));
    world.grpc.last("Get").error(3, "IP queries not supported");
    world.time.advance(HOUR);
    expect([handle.state, handle.failure, world.grpc.calls.length]).toEqual(["failed", "refused", 1]);
  });

  it("brings many in parts, and drops none on the way", () => {
    const world = make();
    const { client, messages } = worker(world);
    const handle = client.endpoints("a.b:80");
    const pods = Array.from({ length: 5_000 }, (_, i) => podAddr(`10.${i >> 8}.${i & 255}.1`));
    const turns = () => {
      for (let ms = 0; ms < 400; ms++) world.time.advance(1);
    };
    send.update(world.grpc.last("Get"), add(...pods));
    turns();
    expect(handle.current.size).toBe(5_000);
    expect(messages.length).toBeGreaterThanOrEqual(10);
    world.grpc.last("Get").end();
    world.time.advance(100);
    messages.length = 0;
    send.update(world.grpc.last("Get"), add(...pods));
    turns();
    expect(messages).toHaveLength(0);
    const late = worker(world).client.endpoints("a.b:80");
    // Not in one turn of its loop: its requests get theirs in between.
    expect(late.current.size).toBeLessThan(1_000);
    turns();
    expect(late.current.size).toBe(5_000);
  });
});

describe("hub, workers", () => {
  it("share one watch per target", () => {
    const world = make();
    const [one, two] = [worker(world), worker(world)];
    one.client.endpoints("a.b:80");
    two.client.endpoints("a.b:80");
    expect(world.grpc.calls).toHaveLength(1);
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1")));
    expect([one, two].map(({ client }) => client.endpoints("a.b:80").current.size)).toEqual([1, 1]);
  });

  it("end a watch when the last one lost interest, or died", () => {
    const world = make();
    const [one, two] = [worker(world), worker(world)];
    one.client.outbound("10.0.0.1", 80);
    two.client.outbound("10.0.0.1", 80);
    world.time.advance(5_000);
    one.client.expire(world.time.now());
    expect(world.grpc.open("Watch")).toHaveLength(1);
    two.side.detach();
    expect([world.grpc.open("Watch"), world.grpc.open("GetProfile")]).toEqual([[], []]);
    const before = world.grpc.calls.length;
    two.side.receive({ type: "discovery.watch", target: { kind: "inbound", port: 1 } });
    expect(world.grpc.calls).toHaveLength(before);
  });

  it("leave nothing behind", () => {
    const world = make();
    const { client } = worker(world);
    client.outbound("10.0.0.1", 80);
    client.inbound(80);
    client.endpoints("a.b:80");
    world.hub.close();
    expect([world.time.armed, world.grpc.calls.filter((call) => !call.cancelled)]).toEqual([0, []]);
  });
});

describe("hub without control plane", () => {
  /** A hub that learns everything, and is gone. */
  function past(): { store: MemoryStore; time: FakeTime } {
    const world = make();
    const { client } = worker(world);
    client.inbound(80);
    client.outbound("10.0.0.1", 80);
    client.endpoints("a.b:80");
    send.server(world.grpc.last("WatchPort"), detectServer({ authorizations: [meshed("a.b")] }));
    send.policy(world.grpc.last("Watch"));
    send.profile(world.grpc.last("GetProfile"), { fullyQualifiedName: "web.shop.svc.cluster.local" });
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1"), podAddr("10.0.0.2")));
    world.hub.close();
    return world;
  }

  it("serves at once from what was stored", () => {
    const before = past();
    before.time.advance(HOUR);
    const world = make({ ...before, connected: false });
    const { client } = worker(world);
    expect(client.inbound(80).current.authorizations).toHaveLength(2);
    expect(client.outbound("10.0.0.1", 80).current?.policy.ref.name).toBe("web");
    expect(client.endpoints("a.b:80").current.size).toBe(2);
    expect(world.hub.status().map(({ source, connected, ageMs }) => [source, connected, ageMs])).toEqual([
      ["stored", false, HOUR],
      ["stored", false, HOUR],
      ["stored", false, HOUR],
    ]);
    world.time.advance(20_000);
    expect(client.outbound("10.0.0.1", 80).state).toBe("ready");
    expect(client.outbound("10.0.0.2", 80).state).toBe("pending");
  });

  it("keeps what was stored back while the control plane is heard, unless that says nothing", () => {
    const world = make(past());
    world.hub.keepInbound([443]);
    send.server(world.grpc.last("WatchPort"));
    const { client } = worker(world);
    const target = client.outbound("10.0.0.1", 80);
    const endpoints = client.endpoints("a.b:80");
    expect([target.state, endpoints.state]).toEqual(["pending", "pending"]);
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.3")));
    expect([...endpoints.current.keys()]).toEqual(["10.0.0.3:8080"]);
    world.time.advance(300);
    expect(target.current?.policy.ref.name).toBe("web");
    world.time.advance(20_000);
    expect(target.state).toBe("ready");
  });

  it("lets first answers outrank stored ones at once", () => {
    const world = make(past());
    const { client } = worker(world);
    const endpoints = client.endpoints("a.b:80");
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.2")));
    expect([...endpoints.current.keys()]).toEqual(["10.0.0.2:8080"]);
    const policy = client.inbound(80);
    send.server(world.grpc.last("WatchPort"), detectServer({ labels: {} }));
    expect(policy.current.source).toBe("invalid");
    const target = client.outbound("10.0.0.1", 80);
    world.grpc.last("Watch").error(5, "gone");
    expect(target.current?.policy.source).toBe("endpoint");
  });

  it("forgets what is older than maxStale", () => {
    const before = past();
    before.time.advance(24 * HOUR + 1);
    const world = make({ ...before, connected: false });
    const { client } = worker(world);
    expect(world.store.files.size).toBe(0);
    const states = [client.inbound(80), client.outbound("10.0.0.1", 80), client.endpoints("a.b:80")];
    expect(states.map(({ state }) => state)).toEqual(["failed", "pending", "pending"]);
  });

  it("gives up outbound answers, not inbound policies, after maxStale of silence", () => {
    const world = make();
    const { client } = worker(world);
    const handles = [client.inbound(80), client.outbound("203.0.113.1", 80), client.endpoints("a.b:80")];
    send.server(world.grpc.last("WatchPort"));
    send.policy(world.grpc.last("Watch"));
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1")));
    world.link.connected = false;
    for (const call of world.grpc.calls) call.error(14, "gone");
    world.time.advance(23 * HOUR);
    expect(handles.map(({ state }) => state)).toEqual(["ready", "ready", "ready"]);
    world.time.advance(2 * HOUR);
    expect(handles.map(({ state, failure }) => [state, failure])).toEqual([
      ["ready", undefined],
      ["failed", "stale"],
      ["failed", "stale"],
    ]);
    world.link.connected = true;
    world.hub.retryNow();
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1")));
    send.policy(world.grpc.last("Watch"));
    expect(handles.map(({ state }) => state)).toEqual(["ready", "ready", "ready"]);
  });

  it("survives a store full of nonsense", () => {
    const store = new MemoryStore();
    const targets: DiscoveryTarget[] = [
      { kind: "inbound", port: 80 },
      { kind: "endpoints", path: "a.b:80" },
      { kind: "outbound", ip: "10.0.0.1", port: 80 },
    ];
    const nonsense = [
      "null",
      "{}",
      "[]",
      '{"format":2,"confirmedAtMs":1e15,"value":null}',
      '{"format":2,"confirmedAtMs":1e15,"value":{}}',
    ];
    for (const text of nonsense) {
      for (const key of ["inbound 80", "endpoints a.b:80", "outbound 10.0.0.1:80"]) store.files.set(key, text);
      const world = make({ store, connected: false });
      const { side } = worker(world);
      for (const target of targets) side.receive({ type: "discovery.watch", target });
      expect(world.hub.status()).toHaveLength(3);
    }
  });
});

describe("hub, for the operator", () => {
  it("says how each watch stands", () => {
    const world = make();
    const { client } = worker(world);
    client.endpoints("a.b:80");
    send.update(world.grpc.last("Get"), add(podAddr("10.0.0.1")));
    client.outbound("10.0.0.1", 80);
    world.grpc.last("Watch").error(14, "connection refused");
    expect(world.hub.status()).toEqual([
      {
        key: "endpoints a.b:80",
        target: { kind: "endpoints", path: "a.b:80" },
        state: "ready",
        source: "live",
        connected: true,
        ageMs: 0,
        why: "",
        endpoints: 1,
      },
      {
        key: "outbound 10.0.0.1:80",
        target: { kind: "outbound", ip: "10.0.0.1", port: 80 },
        state: "pending",
        source: "none",
        connected: false,
        ageMs: undefined,
        why: "connection refused",
        endpoints: undefined,
      },
    ]);
    expect(world.hub.endpoints("a.b:80")?.size).toBe(1);
    expect(world.hub.outbound("10.0.0.1", 80)).toBeUndefined();
  });
});
