import { randomBytes } from "node:crypto";
import { toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Server, ServerCredentials, type ServerWritableStream, status } from "@grpc/grpc-js";
import { grpcService, inbound } from "../../src/proto/index.ts";
import { type ServerInit, server as serverMessage } from "./mesh-messages.ts";

type Call = ServerWritableStream<inbound.PortSpec, Buffer>;

/** What is said about a port: a policy, bytes that are none, a status instead, or nothing. */
export type Say =
  | { readonly kind: "policy"; readonly policy: ServerInit }
  | { readonly kind: "bytes"; readonly bytes: Buffer }
  | { readonly kind: "status"; readonly code: status }
  | { readonly kind: "hang up" }
  | { readonly kind: "silence" };

export const policy = (init: ServerInit): Say => ({ kind: "policy", policy: init });

/** Bytes of which no reader of protobuf makes a message: a length that points past the end. */
export const NONSENSE: Say = { kind: "bytes", bytes: Buffer.from([0x1a, 0xff, 0x7f, ...randomBytes(32)]) };

/** A policy controller that tells each port what the test wants, can be killed, and comes back where it was. */
export class PolicyServer {
  readonly #says = new Map<number, Say>();
  readonly #calls = new Set<Call>();
  #server: Server | undefined;
  #port = 0;
  /** How often anybody asked about each port. */
  readonly asked = new Map<number, number>();

  get port(): number {
    return this.#port;
  }

  /** To everybody who watches the port now, and to whoever asks later. */
  say(port: number, what: Say): void {
    this.#says.set(port, what);
    for (const call of this.#calls) if (call.request.port === port) this.#tell(call, what);
  }

  async start(): Promise<void> {
    const { watchPort } = grpcService(inbound.InboundServerPolicies);
    const server = new Server();
    // Bytes as they are: what is sent need not be a message.
    const raw = { ...watchPort, responseSerialize: (bytes: Buffer) => bytes };
    server.addService({ watchPort: raw }, { watchPort: (call: Call) => this.#watch(call) });
    this.#server = server;
    this.#port = await new Promise((resolve, reject) => {
      server.bindAsync(`127.0.0.1:${this.#port}`, ServerCredentials.createInsecure(), (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
  }

  /** As if its pod were killed: connections break, new ones are refused. */
  kill(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
    this.#calls.clear();
  }

  /** A channel to it, quick to try again. */
  client(): Client {
    return new Client(`127.0.0.1:${this.#port}`, credentials.createInsecure(), {
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 500,
    });
  }

  #watch(call: Call): void {
    const { port } = call.request;
    this.asked.set(port, (this.asked.get(port) ?? 0) + 1);
    this.#calls.add(call);
    call.on("close", () => this.#calls.delete(call));
    call.on("cancelled", () => this.#calls.delete(call));
    this.#tell(call, this.#says.get(port) ?? { kind: "status", code: status.NOT_FOUND });
  }

  #tell(call: Call, what: Say): void {
    switch (what.kind) {
      case "policy":
        return void call.write(Buffer.from(toBinary(inbound.ServerSchema, serverMessage(what.policy))));
      case "bytes":
        return void call.write(what.bytes);
      case "status":
        return void call.emit("error", { code: what.code, details: "as the test wants it" });
      case "hang up":
        return void call.end();
      case "silence":
        return;
      default:
        what satisfies never;
    }
  }
}
