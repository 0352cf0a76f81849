import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openSockets, type SpiffeSockets } from "../../src/agent/spiffe/index.ts";
import { Authority } from "../../src/lab/pki.ts";
import { identityFrom } from "../support/hops.ts";

const ALLOWED = 65_534;
const REFUSED: number[] = [];

let directory: string;
let sockets: SpiffeSockets;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  // As /run/mesh-agent: others may pass, not look.
  chmodSync(directory, 0o711);
  const authority = await Authority.root("root.linkerd.cluster.local");
  const name = "app.shop.serviceaccount.identity.linkerd.cluster.local";
  const identity = await identityFrom(authority, name, "spiffe://cluster.local/ns/shop/sa/app");
  sockets = await openSockets({
    directory,
    users: [String(ALLOWED)],
    units: ["db.service"],
    identity: { current: () => identity, subscribe: () => () => {} },
    log: { error() {}, info() {}, debug() {}, warn: (_message, fields) => void REFUSED.push(Number(fields?.["uid"])) },
  });
});

afterAll(() => {
  sockets.close();
  rmSync(directory, { recursive: true });
});

/** Asks for the identity as some user, in a process of its own. */
function askAs(uid: number, socket: string): Promise<string> {
  const program = `
    const { Client, credentials, Metadata } = require("@grpc/grpc-js");
    process.setgid(${uid}); process.setuid(${uid});
    const metadata = new Metadata(); metadata.set("workload.spiffe.io", "true");
    const client = new Client("unix:${socket}", credentials.createInsecure());
    const same = (bytes) => bytes;
    const stream = client.makeServerStreamRequest("/SpiffeWorkloadAPI/FetchX509SVID", same, same, Buffer.alloc(0), metadata);
    stream.once("data", () => { console.log("given"); process.exit(0); });
    stream.on("error", (error) => { console.log(error.code); process.exit(0); });`;
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk;
    });
    child.on("close", () => resolve(out.trim()));
  });
}

it("tells users apart by what the kernel says of them", async () => {
  const socket = join(directory, "agent.sock");
  expect(await askAs(ALLOWED, socket)).toBe("given");
  expect(await askAs(4001, socket)).toBe(String(status.PERMISSION_DENIED));
  expect(REFUSED).toEqual([4001]);
  expect(await askAs(0, socket)).toBe("given");
});

it("lets nobody but root near a unit's socket, whoever is allowed elsewhere", async () => {
  const socket = join(directory, "units", "db.service", "agent.sock");
  expect(await askAs(ALLOWED, socket)).toBe(String(status.UNAVAILABLE));
  expect(await askAs(0, socket)).toBe("given");
});
