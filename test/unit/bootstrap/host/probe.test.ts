import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server as GrpcServer, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { PROBE_DEFAULTS, type Probe } from "../../../../src/bootstrap/control/index.ts";
import { check, leave, Probes, readMachineId } from "../../../../src/bootstrap/host/index.ts";
import { ProbeState } from "../../../../src/bootstrap/host/probe-state.ts";
import { FakeScheduler, settle } from "../../../support/fake-scheduler.ts";

describe("a probe's verdict", () => {
  it("is bad until the first success, and changes only at its thresholds", () => {
    const state = new ProbeState({ successThreshold: 2, failureThreshold: 3 });
    expect(state.passes).toBe(false);
    expect(state.record(undefined)).toBe(false);
    expect(state.record(undefined)).toBe(true);
    expect([state.record("a"), state.record("b")]).toEqual([false, false]);
    expect(state.record(undefined)).toBe(false);
    expect([state.record("a"), state.record("b"), state.record("c")]).toEqual([false, false, true]);
    expect(state.lastFailure).toBe("c");
    expect(state.passes).toBe(false);
  });
});

describe("probes", () => {
  const probe = (port: number, more: Partial<Probe> = {}): Probe => ({
    check: { kind: "tcp", port },
    ...PROBE_DEFAULTS,
    ...more,
  });

  it("run at their period, and report only what changes", async () => {
    const time = new FakeScheduler();
    const answers = new Map<number, string | undefined>();
    const seen: boolean[] = [];
    const probes = new Probes({
      scheduler: time,
      changed: ({ passes }) => seen.push(passes),
      check: (kind) => Promise.resolve("port" in kind ? answers.get(kind.port) : undefined),
    });
    probes.configure([probe(1), probe(2, { initialDelayMs: 5000, failureThreshold: 1 })]);
    await time.pass(4000);
    expect(seen).toEqual([false]);
    await time.pass(2000);
    expect(probes.verdict()).toEqual({ passes: true, failure: undefined });
    answers.set(2, "port 2: refused");
    await time.pass(11_000);
    expect(probes.verdict()).toEqual({ passes: false, failure: "port 2: refused" });
    expect(seen).toEqual([false, false, true, false].slice(-seen.length));
    probes.stop();
    await settle();
    expect(time.armed).toBe(0);
  });

  it("are good when there are none", () => {
    const probes = new Probes({ scheduler: new FakeScheduler(), changed: () => {} });
    probes.configure([]);
    expect(probes.verdict().passes).toBe(true);
  });
});

describe("a check", () => {
  let server: Server | undefined;
  afterEach(() => server?.close());
  const serve = (status: number): Promise<number> =>
    new Promise((resolve) => {
      const listening = createServer((_request, response) => response.writeHead(status).end("body"));
      server = listening;
      listening.listen(0, "127.0.0.1", () => resolve((listening.address() as AddressInfo).port));
    });

  it.each([
    [200, undefined],
    [302, undefined],
    [404, "answers 404"],
    [503, "answers 503"],
  ])("over HTTP that gets %i", async (status, failure) => {
    const result = await check({ kind: "http", port: await serve(status), path: "/healthz" }, "127.0.0.1", 2000);
    if (failure === undefined) expect(result).toBeUndefined();
    else expect(result).toContain(failure);
  });

  it("over TCP, where somebody listens and where nobody does", async () => {
    const port = await serve(200);
    expect(await check({ kind: "tcp", port }, "127.0.0.1", 2000)).toBeUndefined();
    expect(await check({ kind: "tcp", port: 1 }, "127.0.0.1", 2000)).toContain("ECONNREFUSED");
  });

  it("by a program, which is killed with its children when it takes too long", async () => {
    expect(await check({ kind: "exec", command: ["true"] }, "", 2000)).toBeUndefined();
    expect(await check({ kind: "exec", command: ["false"] }, "", 2000)).toContain("ends with 1");
    expect(await check({ kind: "exec", command: ["/nonexistent"] }, "", 2000)).toContain("ENOENT");
    expect(await check({ kind: "exec", command: ["sh", "-c", "sleep 60 & wait"] }, "", 100)).toContain("within 100 ms");
  });
});

describe("a check by a program", () => {
  it("by a program that has neither our rights nor our environment, nor anybody to tell its output", async () => {
    process.env["PROBE_SECRET"] = "x";
    const sh = (script: string) => check({ kind: "exec", command: ["sh", "-c", script] }, "", 5000);
    expect(await sh('test -z "$PROBE_SECRET"')).toBeUndefined();
    if (process.getuid?.() === 0) {
      expect(await sh('test "$(id -u)" = 65534 && test "$(id -g)" = 65534')).toBeUndefined();
      expect(await sh('grep -q "^CapEff:[[:space:]]*0*$" /proc/self/status')).toBeUndefined();
    }
    // More than any pipe holds: nobody reads it, and it does not wait for anybody.
    expect(await sh("head -c 10000000 /dev/zero; head -c 10000000 /dev/zero >&2")).toBeUndefined();
    expect(await check({ kind: "exec", command: ["true\0false"] }, "", 1000)).toContain("null bytes");
    delete process.env["PROBE_SECRET"];
  });
});

describe("a check over gRPC", () => {
  it("asks for health, of the server or one of its services", async () => {
    const same = (bytes: Buffer) => bytes;
    const asked: string[] = [];
    const server = new GrpcServer();
    server.addService(
      {
        check: {
          path: "/grpc.health.v1.Health/Check",
          requestStream: false,
          responseStream: false,
          requestSerialize: same,
          requestDeserialize: same,
          responseSerialize: same,
          responseDeserialize: same,
        },
      },
      {
        check: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
          const name = call.request.subarray(2).toString();
          asked.push(name);
          // 1 is SERVING, 2 is not.
          done(null, Buffer.of(0x08, name === "down" ? 2 : 1));
        },
      },
    );
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
    const ask = (service: string) => check({ kind: "grpc", port, service }, "127.0.0.1", 5000);
    expect(await ask("")).toBeUndefined();
    expect(await ask("shop.Cart")).toBeUndefined();
    expect(await ask("down")).toContain("not serving");
    expect(asked).toEqual(["", "shop.Cart", "down"]);
    server.forceShutdown();
    expect(await ask("")).toContain("gRPC health on port");
  });
});

describe("the machine id", () => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
  const file = join(directory, "machine-id");
  afterEach(() => rmSync(directory, { recursive: true, force: true }));
  it("leaves the host only as a hash, and must be one", () => {
    writeFileSync(file, "0123456789abcdef0123456789abcdef\n");
    expect(readMachineId(file)).toMatch(/^[0-9a-f]{64}$/);
    for (const bad of ["", "uninitialized\n", "0".repeat(32), "xyz"]) {
      writeFileSync(file, bad);
      expect(() => readMachineId(file)).toThrow("no machine id");
    }
    rmSync(file);
    expect(() => readMachineId(file)).toThrow("cannot be read");
  });
});

describe("leaving", () => {
  it("withdraws, drains and deletes, in this order", async () => {
    const steps: string[] = [];
    const attachment = {
      leave: (andDelete: boolean) => {
        steps.push(andDelete ? "delete" : "withdraw");
        return Promise.resolve();
      },
      stop: () => steps.push("stop"),
    };
    const drain = () => {
      steps.push("drain");
      return Promise.resolve();
    };
    const left = await leave({ attachment, drain, delete: true, scheduler: new FakeScheduler() });
    expect(steps).toEqual(["withdraw", "drain", "delete", "stop"]);
    expect(left).toEqual({ withdrawn: true, deleted: true });
  });

  it("drains all the same when the enroller is away", async () => {
    const time = new FakeScheduler();
    let drained = false;
    const leaving = leave({
      attachment: { leave: () => new Promise(() => {}), stop: () => {} },
      drain: () => {
        drained = true;
        return Promise.resolve();
      },
      delete: false,
      scheduler: time,
      patienceMs: 5000,
    });
    await time.pass(4900);
    expect(drained).toBe(false);
    await time.pass(200);
    expect(await leaving).toEqual({ withdrawn: false, deleted: false });
    expect(drained).toBe(true);
  });
});
