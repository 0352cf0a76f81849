import { type ChildProcess, spawn } from "node:child_process";
import http from "node:http";
import net from "node:net";
import { Client, credentials } from "@grpc/grpc-js";
import type { Millis } from "../../proxy/core/clock.ts";
import { CHANNEL_OPTIONS, type ProbeKind, printable } from "../control/index.ts";

/**
 * Makes one check of the host's own application, as kubelet would.
 *
 * @param host - Where the application listens, normally 127.0.0.1.
 * @returns why it failed, as a short sentence; undefined if it succeeded. Never rejects.
 */
export function check(kind: ProbeKind, host: string, timeoutMs: Millis): Promise<string | undefined> {
  switch (kind.kind) {
    case "http":
      return checkHttp(host, kind.port, kind.path, timeoutMs);
    case "tcp":
      return checkTcp(host, kind.port, timeoutMs);
    case "grpc":
      return checkGrpc(host, kind.port, kind.service, timeoutMs);
    case "exec":
      return checkExec(kind.command, timeoutMs);
    default:
      return kind satisfies never;
  }
}

/** 200–399 is success; redirects are not followed; the body is not read. */
function checkHttp(host: string, port: number, path: string, timeoutMs: Millis): Promise<string | undefined> {
  return new Promise((resolve) => {
    const request = http.get(
      { host, port, path, agent: false, headers: { "user-agent": "mesh-agent-probe", connection: "close" } },
      (response) => {
        const { statusCode = 0 } = response;
        finish(statusCode >= 200 && statusCode < 400 ? undefined : `${path} on port ${port} answers ${statusCode}`);
      },
    );
    const timer = setTimeout(() => finish(`${path} on port ${port} does not answer within ${timeoutMs} ms`), timeoutMs);
    const finish = (failure: string | undefined) => {
      clearTimeout(timer);
      request.destroy();
      resolve(failure);
    };
    // Stays: destroying the request may raise one more error.
    request.on("error", (error) => finish(`${path} on port ${port}: ${error.message}`));
  });
}

function checkTcp(host: string, port: number, timeoutMs: Millis): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const timer = setTimeout(() => finish(`port ${port} does not accept within ${timeoutMs} ms`), timeoutMs);
    const finish = (failure: string | undefined) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(failure);
    };
    socket.once("connect", () => finish(undefined));
    socket.on("error", (error) => finish(`port ${port}: ${error.message}`));
  });
}

/** grpc.health.v1: HealthCheckRequest { string service = 1 }, HealthCheckResponse { status = 1 }, where SERVING is 1. */
function checkGrpc(host: string, port: number, service: string, timeoutMs: Millis): Promise<string | undefined> {
  const address = net.isIPv6(host) ? `ipv6:[${host}]:${port}` : `ipv4:${host}:${port}`;
  const client = new Client(address, credentials.createInsecure(), CHANNEL_OPTIONS);
  const name = Buffer.from(service);
  const request = name.length === 0 ? name : Buffer.concat([Buffer.of(0x0a, name.length), name]);
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      "/grpc.health.v1.Health/Check",
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      request,
      { deadline: Date.now() + timeoutMs },
      (error, answer) => {
        client.close();
        if (error !== null) resolve(`gRPC health on port ${port}: ${error.details}`);
        else resolve(answer?.[0] === 0x08 && answer[1] === 1 ? undefined : `gRPC health on port ${port}: not serving`);
      },
    );
  });
}

// Under systemd the agent has a user of its own and no capability. Where it is root, in a container say, a probe is nobody.
const NOBODY = 65_534;

/**
 * Exit status 0 is success. Killed with everything it started: a probe must not leave processes behind. Its output goes
 * nowhere.
 */
function checkExec(command: readonly string[], timeoutMs: Millis): Promise<string | undefined> {
  const [program, ...args] = command;
  if (program === undefined) return Promise.resolve("the exec probe names no command");
  return new Promise((resolve) => {
    let child: ChildProcess;
    try {
      // A process group of its own; nothing of our environment but the path.
      child = spawn(program, args, {
        detached: true,
        stdio: "ignore",
        env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
        ...(process.getuid?.() === 0 && { uid: NOBODY, gid: NOBODY }),
      });
    } catch (error) {
      // What no program can be given, such as a zero byte.
      resolve(`${printable(program, 80)}: ${(error as Error).message}`);
      return;
    }
    let done = false;
    const finish = (failure: string | undefined) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      killGroup(child.pid);
      resolve(failure);
    };
    const timer = setTimeout(() => finish(`${program} does not end within ${timeoutMs} ms`), timeoutMs);
    child.once("error", (error) => finish(`${program}: ${error.message}`));
    child.once("exit", (code, signal) => finish(code === 0 ? undefined : `${program} ends with ${code ?? signal}`));
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody is left in it.
  }
}
