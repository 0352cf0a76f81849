/** What reaches the host's application, and what of it is said elsewhere. */
import type { IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { parseCidr } from "../../../src/proxy/core/address.ts";
import { type Authorization, defaultInboundPolicy, type InboundPolicy } from "../../../src/proxy/policy/index.ts";
import { CLIENT_NAME, type Hops } from "../../support/hops.ts";
import { ANYONE, detect, InboundSite, inboundPolicy, routeTo } from "../../support/inbound-site.ts";
import { speak } from "../../support/meshed-client.ts";
import { until } from "../../support/until.ts";

const site = new InboundSite();
afterEach(() => site.close());

const OPEN = inboundPolicy(detect(10_000, routeTo("")));

async function start(policy: InboundPolicy = OPEN) {
  const seen: IncomingMessage[] = [];
  const appPort = await site.http((request, response) => {
    seen.push(request);
    response.end("the application");
  });
  return { seen, appPort, ...(await site.hops({ appPort, inboundPolicy: policy })) };
}

/** Sends bytes in plaintext and reads to the end. */
function tell(port: number, text: string): Promise<string> {
  const socket: Socket = connect(port, "127.0.0.1");
  let heard = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    heard += chunk.toString("latin1");
  });
  socket.write(text);
  return new Promise((resolve) => socket.once("close", () => resolve(heard)));
}

const request = (lines: string, path = "/") => `GET ${path} HTTP/1.1\r\nhost: a\r\n${lines}connection: close\r\n\r\n`;

describe("headers", () => {
  // Without a collector of traces Linkerd's proxy touches none of them; we have none.
  test("that carry a trace arrive as they are, and none is made", async () => {
    const { seen, intercepted, hops, appPort } = await start();
    const trace = [
      ["traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
      ["tracestate", "rojo=00f067aa0ba902b7"],
      ["grpc-trace-bin", "AAAAAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAgE="],
      ["x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"],
      ["x-b3-spanid", "a2fb4a1d1a96d312"],
      ["x-b3-sampled", "1"],
      ["b3", "463ac35c9f6413ad-a2fb4a1d1a96d312-1"],
    ] as const;
    const lines = trace.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    await tell(intercepted, request(lines));
    await speak(hops, { port: appPort, protocol: "http1" }, request(lines));
    await tell(intercepted, request(""));
    const names = trace.map(([name]) => name);
    const found = seen.map(({ headers }) => names.map((name) => headers[name]));
    const sent = trace.map(([, value]) => value);
    expect(found).toEqual([sent, sent, names.map(() => undefined)]);
  });

  test("of the mesh and of proxies before us arrive, but for what we alone may say", async () => {
    const { seen, intercepted } = await start();
    const others = ["x-forwarded-for: 1.2.3.4", "via: 1.1 b", "l5d-dst-canonical: a.b:80", "forwarded: for=c"];
    await tell(intercepted, request(`${others.join("\r\n")}\r\nl5d-client-id: forged\r\n`));
    expect(seen[0]?.headers).toMatchObject({
      "x-forwarded-for": "1.2.3.4",
      via: "1.1 b",
      "l5d-dst-canonical": "a.b:80",
      forwarded: "for=c",
    });
    expect(seen[0]?.headers["l5d-client-id"]).toBeUndefined();
  });

  test("that name a client are nobody's to send who proved nothing, in whatever spelling an application reads", async () => {
    const { seen, intercepted, hops } = await start();
    const forged = [
      "L5D-Client-ID: admin",
      "l5d_client_id: admin",
      "L5d-client_Id: admin",
      "X-Forwarded-Client-Cert: By=spiffe://a;URI=spiffe://admin",
      "x_forwarded_client_cert: URI=spiffe://admin",
    ];
    await tell(intercepted, request(`${forged.join("\r\n")}\r\n`));
    expect(seen[0]?.rawHeaders.map((text) => text.toLowerCase())).not.toContainEqual(
      expect.stringMatching(/admin|client/),
    );
    // A peer with an identity passes on what its own proxy said, but cannot be somebody else.
    await speak(hops, "none", request(`${forged.join("\r\n")}\r\n`), { port: intercepted });
    expect(seen[1]?.headers["l5d-client-id"]).toBe(CLIENT_NAME);
    expect(Object.keys(seen[1]?.headers ?? {}).filter((name) => name.includes("_"))).toEqual([]);
  });

  test("that a route changes: added, then set, then removed; also who calls", async () => {
    const changes = {
      add: [{ name: "x-many", value: "2" }],
      set: [{ name: "l5d-client-id", value: "set by the route" }],
      remove: ["x-gone"],
    };
    const filters = [{ kind: "request-headers" as const, changes }];
    const { seen, hops, appPort } = await start(inboundPolicy(detect(10_000, routeTo("", { filters }))));
    await speak(hops, { port: appPort, protocol: "http1" }, request("x-many: 1\r\nx-gone: 1\r\n"));
    expect(seen[0]?.headers["x-many"]).toBe("1, 2");
    expect(seen[0]?.headers["l5d-client-id"]).toBe("set by the route");
    expect(seen[0]?.headers["x-gone"]).toBeUndefined();
  });
});

describe("connections to the application", () => {
  /** Requests one after the other, each on a client connection of its own: which connection brought each? */
  async function brought(requests: readonly string[]): Promise<(number | undefined)[]> {
    const ports: (number | undefined)[] = [];
    const appPort = await site.http((incoming, response) => {
      ports.push(incoming.socket.remotePort);
      response.end("x");
    });
    const { intercepted } = await site.hops({ appPort, inboundPolicy: OPEN });
    for (const text of requests) await tell(intercepted, text);
    return ports;
  }

  test("are kept for the next request of the same Host", async () => {
    const [first, second] = await brought([request(""), request("")]);
    expect(second).toBe(first);
  });

  test("are not shared by different Hosts, nor by requests without one", async () => {
    const without = "GET / HTTP/1.0\r\n\r\n";
    const ports = await brought([request(""), request("").replace("host: a", "host: b"), without, without]);
    expect(new Set(ports).size).toBe(4);
  });
});

describe("the policy named audit", () => {
  const audit = defaultInboundPolicy("audit", { detectTimeoutMs: 500, clusterNetworks: [] });

  test("permits, and says who would be refused by a stricter one, once in ten seconds", async () => {
    const { hops, intercepted } = await start(audit);
    const said = () => hops.server.log.lines.filter((line) => line === "info request allowed").length;
    for (let i = 0; i < 3; i++) expect(await tell(intercepted, request(""))).toMatch(/^HTTP\/1\.1 200 /);
    expect(said()).toBe(1);
    hops.skip(10_000);
    await tell(intercepted, request(""));
    expect(said()).toBe(2);
    await until(() => hops.server.ended.length === 4, "four exchanges are over");
    expect(hops.server.ended.map(({ permit }) => permit?.authorization.ref.name)).toEqual(Array(4).fill("audit"));
  });

  test("another one is silent", async () => {
    const { hops, intercepted } = await start();
    await tell(intercepted, request(""));
    expect(hops.server.log.lines).not.toContain("info request allowed");
  });
});

describe("a client with a link-local address", () => {
  const within = (cidr: string): Authorization => {
    const net = parseCidr(cidr);
    if (net === undefined) throw new Error(cidr);
    return { ...ANYONE, networks: [{ net, except: [] }] };
  };
  /** The first answer's status to a client at fe80::1 of a link that only this host knows. */
  async function status(network: string): Promise<{ status: string; hops: Hops }> {
    const route = { ...routeTo(""), authorizations: [within(network)] };
    const { hops, appPort } = await start(inboundPolicy(detect(10_000, route), []));
    const from = { ip: "fe80::1%eth0", port: 4_000 };
    const port = await hops.server.listenIntercepted({ ip: "127.0.0.1", port: appPort }, from);
    return { status: (await tell(port, request(""))).split(" ")[1] ?? "", hops };
  }

  test("is one of its network, whatever its zone", async () => {
    expect((await status("fe80::/10")).status).toBe("200");
  });

  test("is not one of another", async () => {
    const { status: seen, hops } = await status("fd00::/8");
    expect(seen).toBe("403");
    const x = await until(() => hops.server.ended[0], "the exchange is over");
    expect(x.peer.address.ip).toBe("fe80::1%eth0");
  });
});

test("a client that half-closes is heard to the end, and so is the application", async () => {
  const appPort = await site.tcp((socket) => {
    let heard = "";
    socket.on("data", (data) => {
      heard += String(data);
    });
    socket.on("end", () => socket.end(`heard ${heard.length}`));
  });
  const { hops } = await site.hops({ appPort, inboundPolicy: inboundPolicy({ kind: "opaque" }) });
  expect(await speak(hops, { port: appPort, protocol: undefined }, "x".repeat(50_000), { end: true })).toBe(
    "heard 50000",
  );
});
