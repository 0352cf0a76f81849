import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import {
  close,
  dup,
  localPort,
  PosixError,
  peerCredentials,
  selfTest,
  setUserTimeout,
} from "../../../src/agent/posix.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listening(): Promise<{ server: Server; fd: number; port: number }> {
  const server = createServer();
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const handle: unknown = Reflect.get(server, "_handle");
  if (typeof address !== "object" || address === null || typeof handle !== "object" || handle === null) {
    throw new Error("not listening");
  }
  return { server, fd: Number(Reflect.get(handle, "fd")), port: address.port };
}

describe("posix", () => {
  it("tells the port of an internet socket, and none of another kind", async () => {
    const { fd, port } = await listening();
    expect(localPort(fd)).toBe(port);
    const six = createServer();
    servers.push(six);
    six.listen(0, "::1");
    await once(six, "listening");
    const handle = Reflect.get(six, "_handle") as object;
    expect(localPort(Number(Reflect.get(handle, "fd")))).toBe((six.address() as { port: number }).port);
    const path = `/tmp/mesh-agent-posix-${process.pid}.sock`;
    const unix = createServer();
    servers.push(unix);
    unix.listen(path);
    await once(unix, "listening");
    expect(localPort(Number(Reflect.get(Reflect.get(unix, "_handle") as object, "fd")))).toBeUndefined();
    expect(() => localPort(-1)).toThrow("EBADF");
  });

  it("passes its self-test on the main thread and in a worker, without a warning", async () => {
    const warnings: Error[] = [];
    const note = (warning: Error) => warnings.push(warning);
    process.on("warning", note);
    selfTest();
    const source = new URL("../../../src/agent/posix.ts", import.meta.url).href;
    const worker = new Worker(`import(${JSON.stringify(source)}).then((posix) => posix.selfTest())`, { eval: true });
    const [code] = await once(worker, "exit");
    process.off("warning", note);
    expect(code).toBe(0);
    expect(warnings).toEqual([]);
  });

  it("duplicates a listening descriptor that outlives the original", async () => {
    const { server, fd, port } = await listening();
    const copy = dup(fd);
    server.close();
    await once(server, "close");
    const second = createServer((socket) => socket.end("second"));
    servers.push(second);
    second.listen({ fd: copy });
    await once(second, "listening");
    expect(second.address()).toMatchObject({ port });
  });

  it("names the errno of a failed call", () => {
    expect(() => dup(-1)).toThrow(expect.objectContaining({ name: "PosixError", syscall: "fcntl", code: "EBADF" }));
    expect(() => close(-1)).toThrow(PosixError);
  });

  it("sets the user timeout of a TCP socket and refuses anything else", async () => {
    const { fd } = await listening();
    setUserTimeout(fd, 5_000);
    expect(() => setUserTimeout(0, 5_000)).toThrow(PosixError);
  });

  it("reads no credentials from a socket that has none", async () => {
    const { fd } = await listening();
    expect(peerCredentials(fd)).toEqual({ pid: 0, uid: -1, gid: -1 });
  });
});
