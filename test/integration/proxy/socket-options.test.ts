/** What the kernel is told about the sockets of every road through real workers (inbound.md §3.1, §7; outbound.md §1.1, §6.4). */
import { createServer as createHttp } from "node:http";
import { type AddressInfo, connect, createServer as createTcp, type Server } from "node:net";
import { afterEach, expect, test } from "vitest";
import { localPort } from "../../../src/agent/posix.ts";
import { Pools } from "../../support/pools.ts";
import { type TcpSocket, tcpSockets } from "../../support/tcp-sockets.ts";
import { until } from "../../support/until.ts";

const open: { close(): void }[] = [];
let pools: Pools | undefined;
afterEach(async () => {
  for (const each of open.splice(0)) each.close();
  await pools?.stop();
  pools = undefined;
});

async function listening(server: Server): Promise<number> {
  open.push(server);
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return (server.address() as AddressInfo).port;
}

/** Answers whatever it is sent, and keeps the connection. */
const bytes = () => createTcp((socket) => socket.on("error", () => {}).on("data", () => socket.write("heard")));
const upgraded = () =>
  createTcp((socket) =>
    socket
      .on("error", () => {})
      .on("data", () => socket.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\n\r\nheard")),
  );
const web = () => createHttp((_req, res) => res.end("heard"));

const GET = "GET / HTTP/1.1\r\nhost: a\r\n";

test.each([
  ["a request that is carried in HTTP/2", web, `${GET}\r\n`],
  ["an upgrade", upgraded, `${GET}upgrade: chat\r\nconnection: upgrade\r\n\r\n`],
  ["bytes", bytes, "\x16 no HTTP, and no TLS"],
] as const)("the connections of %s", async (_kind, app, first) => {
  const appPort = await listening(app());
  pools = await Pools.start({ appPort, clients: 1, servers: 1 });
  const { port, server } = pools;
  const meshPort = localPort(server.fd) ?? 0;
  const socket = connect(port, "127.0.0.1", () => socket.write(first));
  open.push({ close: () => socket.destroy() });
  let heard = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    heard += chunk.toString("latin1");
  });
  await until(() => heard.includes("heard"), "it is carried");
  const sockets = tcpSockets();
  const of = (wanted: (each: TcpSocket) => boolean) =>
    sockets
      .filter(wanted)
      .map(({ noDelay, keepAlive, keepIdleSeconds, userTimeoutMs }) => [
        noDelay,
        keepAlive,
        keepIdleSeconds,
        userTimeoutMs,
      ]);
  expect({
    fromProgram: of((each) => each.localPort === port),
    toPeer: of((each) => each.remotePort === meshPort),
    fromPeer: of((each) => each.localPort === meshPort),
    toApplication: of((each) => each.remotePort === appPort),
  }).toEqual({
    fromProgram: [[true, true, 10, 0]],
    toPeer: [[true, true, 10, 30_000]],
    fromPeer: [[true, true, 10, 30_000]],
    toApplication: [[true, true, 10, 0]],
  });
});
