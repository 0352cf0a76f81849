/** What a request carries is nobody's business but the application's: none of it is found in the proxy's log. */
import { randomBytes } from "node:crypto";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Hops } from "../../support/hops.ts";

const TRIED = 1000;
const AT_ONCE = 20;

let app: http.Server;
let hops: Hops;
const written: string[] = [];

beforeEach(async () => {
  written.length = 0;
  // The application does its part for the log: refuses, resets, breaks the protocol.
  app = http.createServer((request, response) => {
    const turn = Number(request.headers["x-turn"]);
    if (turn % 5 === 1) request.socket.resetAndDestroy();
    else if (turn % 5 === 2) request.socket.end("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n");
    else response.writeHead(turn % 5 === 3 ? 503 : 200).end("ok");
  });
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
  hops = await Hops.start({ appPort: (app.address() as AddressInfo).port });
  for (const { log } of [hops.client, hops.server])
    for (const level of ["error", "warn", "info", "debug"] as const)
      log[level] = (message: string, fields?: object) => void written.push(`${message} ${JSON.stringify(fields)}`);
});

afterEach(() => {
  hops.close();
  app.closeAllConnections();
  app.close();
});

/** One request, as it is, over a connection of its own; resolves when that is over. */
function say(text: string): Promise<void> {
  return new Promise((resolve) => {
    const socket = net.connect(hops.port, "127.0.0.1", () => socket.write(text));
    socket.setTimeout(2_000, () => socket.destroy());
    socket.on("data", () => socket.end());
    socket.on("error", () => {});
    socket.on("close", () => resolve());
  });
}

it("query strings, cookies, tokens and bodies of a thousand requests, good and bad", { timeout: 60_000 }, async () => {
  const secrets: string[] = [];
  const request = (turn: number): string => {
    const secret = () => {
      const text = randomBytes(12).toString("hex");
      secrets.push(text);
      return text;
    };
    const head = [
      `POST /login?token=${secret()}&next=%2F HTTP/1.1`,
      "host: app.example",
      `x-turn: ${turn}`,
      `cookie: session=${secret()}`,
      `authorization: Bearer ${secret()}`,
      `x-${secret()}: 1`,
    ];
    const body = secret();
    // Every fourth breaks a rule of HTTP's, in a place beside a secret.
    if (turn % 4 === 0)
      head.push(
        [`cookie : ${secret()}`, `a: ${secret()}\0`, `content-length: ${secret()}`, ` ${secret()}`][(turn / 4) % 4] ??
          "",
      );
    return `${[...head, `content-length: ${body.length}`, "connection: close"].join("\r\n")}\r\n\r\n${body}`;
  };
  let turn = 0;
  const ask = async () => {
    while (turn < TRIED) await say(request(turn++));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
  const all = written.join("\n");
  expect(secrets.length).toBeGreaterThan(5 * TRIED);
  expect(secrets.filter((text) => all.includes(text))).toEqual([]);
  // Silence alone would be no merit: it speaks of what goes wrong.
  expect(written.length).toBeGreaterThan(0);
  console.log(`${secrets.length} secrets, ${written.length} lines`);
});
