import { createServer as createHttp, type Server as HttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { defaultInboundPolicy } from "../../../src/proxy/policy/index.ts";
import { CLIENT_NAME, type HopProxy, Hops, type HopsOptions, SERVER_URI } from "../../support/hops.ts";
import { until } from "../../support/until.ts";

let closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers) close();
  closers = [];
});

async function start(app: Server | HttpServer, options: Partial<HopsOptions> = {}): Promise<[Hops, number]> {
  app.listen(0, "127.0.0.1");
  await new Promise((resolve) => app.once("listening", resolve));
  const appPort = (app.address() as AddressInfo).port;
  const hops = await Hops.start({ appPort, ...options });
  closers.push(() => {
    hops.close();
    app.close();
  });
  return [hops, appPort];
}

/** Lines of one family as they stand on the page, waited for until there are `count`. */
function lines(proxy: HopProxy, family: string, count: number): Promise<string[]> {
  const look = () => {
    const found = proxy.metrics
      .format()
      .split("\n")
      .filter((line) => line.startsWith(`${family}{`));
    return found.length >= count ? found : undefined;
  };
  return until(look, `${family} has ${count} series`);
}

function exchange(port: number, say: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    let seen = "";
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString("latin1");
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(seen));
    socket.on("end", () => socket.end());
    socket.write(say);
    if (!say.startsWith("GET")) socket.end();
  });
}

const greeter = () =>
  createServer({ allowHalfOpen: true }, (socket: Socket) => {
    socket.on("error", () => {});
    socket.on("data", () => {});
    socket.on("end", () => socket.end("0123456789"));
  });

const loopback = 'tls="no_identity",no_tls_reason="loopback"';
const target = (port: number) => `target_addr="127.0.0.1:${port}",target_ip="127.0.0.1",target_port="${port}"`;
const server = (port: number) => `srv_group="",srv_kind="default",srv_name="all-authenticated",srv_port="${port}"`;
const meshed = `tls="true",client_id="${CLIENT_NAME}"`;

describe("connections on the page", () => {
  test("an opaque one: both sockets of both hops, bytes inside TLS, authorization, route, zone", async () => {
    const [hops, appPort] = await start(greeter(), { opaque: true });
    expect(await exchange(hops.port, "hello")).toBe("0123456789");
    const src = `direction="outbound",peer="src",${target(hops.port)},${loopback}`;
    const dst = `direction="outbound",peer="dst",${target(appPort)},tls="true",server_id="${SERVER_URI}"`;
    expect(await lines(hops.client, "tcp_close_total", 2)).toEqual([
      `tcp_close_total{${src},errno=""} 1`,
      `tcp_close_total{${dst},errno=""} 1`,
    ]);
    expect(await lines(hops.client, "tcp_open_total", 2)).toEqual([
      `tcp_open_total{${src}} 1`,
      `tcp_open_total{${dst}} 1`,
    ]);
    expect(await lines(hops.client, "tcp_open_connections", 2)).toEqual([
      `tcp_open_connections{${src}} 0`,
      `tcp_open_connections{${dst}} 0`,
    ]);
    expect(await lines(hops.client, "tcp_read_bytes_total", 2)).toEqual([
      `tcp_read_bytes_total{${src}} 5`,
      `tcp_read_bytes_total{${dst}} 10`,
    ]);
    expect(await lines(hops.client, "tcp_write_bytes_total", 2)).toEqual([
      `tcp_write_bytes_total{${src}} 10`,
      `tcp_write_bytes_total{${dst}} 5`,
    ]);
    expect(await lines(hops.client, "outbound_tcp_transfer_cost_bytes_total", 2)).toEqual([
      'outbound_tcp_transfer_cost_bytes_total{op="Send",zone_locality="Unknown"} 5',
      'outbound_tcp_transfer_cost_bytes_total{op="Recv",zone_locality="Unknown"} 10',
    ]);
    expect(await lines(hops.client, "outbound_tcp_protocol_connections_total", 1)).toEqual([
      expect.stringMatching(/\{protocol="opaq",parent_group="",parent_kind="default",.*\} 1$/),
    ]);
    expect(await lines(hops.client, "outbound_tcp_route_open_total", 1)).toEqual([
      expect.stringMatching(/,route_kind="default",.*,target_ip="127.0.0.1",target_port="\d+"\} 1$/),
    ]);
    expect((await lines(hops.client, "outbound_tcp_route_close_total", 5)).map((line) => line.slice(-16))).toEqual(
      expect.arrayContaining([expect.stringMatching(/error=""\} 1$/), expect.stringMatching(/forbidden"\} 0$/)]),
    );

    const inbound = `direction="inbound",peer="src",${target(appPort)},${meshed},${server(appPort)}`;
    expect(await lines(hops.server, "tcp_read_bytes_total", 2)).toEqual([
      `tcp_read_bytes_total{direction="inbound",peer="dst",${loopback}} 10`,
      `tcp_read_bytes_total{${inbound}} 5`,
    ]);
    expect(await lines(hops.server, "tcp_close_total", 2)).toEqual(
      expect.arrayContaining([`tcp_close_total{${inbound},errno=""} 1`]),
    );
    expect(await lines(hops.server, "inbound_tcp_authz_allow_total", 1)).toEqual([
      `inbound_tcp_authz_allow_total{${target(appPort)},${server(appPort)},` +
        `authz_group="",authz_kind="default",authz_name="all-authenticated",${meshed}} 1`,
    ]);
    expect(await lines(hops.server, "inbound_tcp_transport_header_connections_total", 1)).toEqual([
      `inbound_tcp_transport_header_connections_total{session_protocol="",target_port="${appPort}",` +
        `target_name="",client_id="${CLIENT_NAME}"} 1`,
    ]);
  });

  test("one that a reset ended says so", async () => {
    let app: Socket | undefined;
    const [hops] = await start(
      createServer((socket) => {
        app = socket;
        socket.on("error", () => {});
        socket.resume();
      }),
      { opaque: true },
    );
    const socket = connect(hops.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write("x");
    await until(() => app, "the application has it");
    socket.resetAndDestroy();
    expect(await lines(hops.client, "tcp_close_total", 2)).toEqual(
      expect.arrayContaining([expect.stringMatching(/peer="src".*,errno="ECONNRESET"\} 1$/)]),
    );
    expect(await lines(hops.client, "tcp_open_connections", 2)).toEqual([
      expect.stringMatching(/ 0$/),
      expect.stringMatching(/ 0$/),
    ]);
  });

  test("HTTP: what was detected, on kept connections that stay open", async () => {
    const [hops, appPort] = await start(createHttp((_req, res) => res.end("hi")));
    expect(await exchange(hops.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).toContain("hi");
    expect(await lines(hops.client, "outbound_tcp_detect_http_results_total", 5)).toEqual([
      expect.stringMatching(/\{result="not_http",parent_group="".*\} 0$/),
      expect.stringMatching(/\{result="http\/1",.*\} 1$/),
      expect.stringMatching(/\{result="http\/2",.*\} 0$/),
      expect.stringMatching(/\{result="read_timeout",.*\} 0$/),
      expect.stringMatching(/\{result="error",.*\} 0$/),
    ]);
    expect(await lines(hops.client, "outbound_tcp_detect_http_duration_seconds_bucket", 3)).toEqual(
      expect.arrayContaining([expect.stringMatching(/\{le="\+Inf",.*\} 1$/)]),
    );
    // The mesh connection is kept for the next request; only the program's has closed.
    await lines(hops.client, "tcp_close_total", 1);
    expect(await lines(hops.client, "tcp_open_connections", 2)).toEqual([
      expect.stringMatching(/peer="src".* 0$/),
      expect.stringMatching(/peer="dst".* 1$/),
    ]);
    expect(await lines(hops.server, "inbound_tcp_transport_header_connections_total", 1)).toEqual([
      expect.stringContaining(`session_protocol="http/2",target_port="${appPort}"`),
    ]);
  });

  test("what was refused, failed or taken back", async () => {
    const held: Socket[] = [];
    const app = createServer((socket) => {
      held.push(socket);
      socket.on("error", () => {});
    });
    const [hops, appPort] = await start(app, {
      opaque: true,
      inboundPolicy: defaultInboundPolicy("all-authenticated", {
        detectTimeoutMs: 500,
        clusterNetworks: [],
        opaque: true,
      }),
    });
    const socket = connect(hops.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write("x");
    await until(() => held.length === 1, "the application has it");
    const deny = defaultInboundPolicy("deny", { detectTimeoutMs: 500, clusterNetworks: [], opaque: true });
    hops.server.tell({ type: "discovery.inbound", key: `inbound ${appPort}`, value: deny });
    expect(await lines(hops.server, "inbound_tcp_authz_terminate_total", 1)).toEqual([
      `inbound_tcp_authz_terminate_total{${target(appPort)},` +
        `srv_group="",srv_kind="default",srv_name="deny",srv_port="${appPort}",${meshed}} 1`,
    ]);
    await exchange(hops.port, "y");
    expect(await lines(hops.server, "inbound_tcp_authz_deny_total", 1)).toEqual([
      expect.stringMatching(/srv_name="deny".*\} 1$/),
    ]);
    expect(held.length).toBe(1);
    // A stranger on the proxy's own port.
    await exchange(hops.directPort, "hello");
    expect(await lines(hops.server, "inbound_tcp_errors_total", 1)).toEqual([
      `inbound_tcp_errors_total{error="unexpected",${target(hops.directPort)}} 1`,
    ]);
  });

  test("an application that is not there fails the connection on both hops", async () => {
    const hops = await Hops.start({ appPort: 1, opaque: true });
    closers.push(() => hops.close());
    await exchange(hops.port, "x");
    expect(await lines(hops.server, "inbound_tcp_errors_total", 1)).toEqual([
      `inbound_tcp_errors_total{error="i/o",${target(1)}} 1`,
    ]);
  });

  test("an endpoint that is somebody else", async () => {
    const [hops] = await start(greeter(), {
      opaque: true,
      identity: {
        kind: "dns",
        id: "other.ns.serviceaccount.identity.linkerd.cluster.local",
        serverName: "server.ns.serviceaccount.identity.linkerd.cluster.local",
      },
    });
    await exchange(hops.port, "x");
    expect(await lines(hops.client, "outbound_tcp_errors_total", 1)).toEqual([
      `outbound_tcp_errors_total{${target(hops.port)},error="identity required"} 1`,
    ]);
    expect(
      (await lines(hops.client, "outbound_tcp_route_close_total", 5)).filter((line) => line.endsWith(" 1")),
    ).toEqual([expect.stringContaining('error="unexpected"')]);
  });
});
