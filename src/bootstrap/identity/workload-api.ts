import { createPrivateKey, X509Certificate } from "node:crypto";
import { Client, type ClientReadableStream, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { SpiffeWorkloadAPI, type X509SVID, type X509SVIDResponse } from "../../proto/gen/spiffe/workload_pb.ts";
import { grpcService } from "../../proto/grpc.ts";
import type { IdentitySource, WorkloadIdentity } from "../../proxy/core/identity.ts";
import {
  alternativeNames,
  type BackoffOptions,
  BootstrapError,
  backoffMs,
  CHANNEL_OPTIONS,
  derToPem,
  type Log,
  type Scheduler,
  validity,
} from "../control/index.ts";
import { exportKey, importKey, publicKeyDer } from "./key.ts";

export interface WorkloadApiOptions {
  /** Path of the agent's unix socket, such as `/run/spire/sockets/agent.sock`. */
  readonly socket: string;
  /** Which SVID to take, if the agent has several for us; absent: the first, its default. */
  readonly spiffeId?: string;
  /** The name that peers put into SNI: the ExternalWorkload's `serverName`. The first DNS name unless told. */
  readonly serverName?: string;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** An SVID came that cannot be used: for metrics. Silence is no failed renewal. */
  readonly failed?: () => void;
}

const METHOD = grpcService(SpiffeWorkloadAPI).fetchX509SVID;
const BACKOFF: BackoffOptions = { minMs: 1000, maxMs: 30_000 };
const MAX_CERTIFICATES = 64;

/**
 * An identity from a SPIFFE Workload API, such as SPIRE's agent serves. The agent renews and rotates; we listen. The
 * last good answer stays when the agent goes away.
 *
 * @see SPIFFE Workload API §4.1 (the security header), §5.2 (X.509-SVID profile)
 */
export class WorkloadApiIdentity implements IdentitySource {
  readonly #options: WorkloadApiOptions;
  readonly #listeners = new Set<(identity: WorkloadIdentity) => void>();
  #identity: WorkloadIdentity | undefined;
  #client: Client | undefined;
  #stream: ClientReadableStream<X509SVIDResponse> | undefined;
  #failures = 0;
  #problem: string | undefined;
  #cancel: () => void = () => {};

  constructor(options: WorkloadApiOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#client !== undefined) return;
    this.#client = new Client(`unix:${this.#options.socket}`, credentials.createInsecure(), CHANNEL_OPTIONS);
    this.#listen();
  }

  stop(): void {
    this.#cancel();
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.cancel();
    this.#client?.close();
    this.#client = undefined;
  }

  /** undefined until the first answer. */
  current(): WorkloadIdentity | undefined {
    return this.#identity;
  }

  /** Why the agent's last answer is missing or cannot be used; undefined if all is well. */
  get problem(): string | undefined {
    return this.#problem;
  }

  subscribe(listener: (identity: WorkloadIdentity) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #listen(): void {
    const metadata = new Metadata();
    metadata.set("workload.spiffe.io", "true");
    const stream = this.#client?.makeServerStreamRequest(
      METHOD.path,
      METHOD.requestSerialize,
      METHOD.responseDeserialize,
      {},
      metadata,
    );
    if (stream === undefined) return;
    this.#stream = stream;
    stream.on("data", (response: X509SVIDResponse) => {
      this.#failures = 0;
      this.#accept(response);
    });
    const over = (error?: ServiceError) => {
      if (this.#stream !== stream) return;
      this.#stream = undefined;
      this.#retry(error?.details ?? "the stream ended");
    };
    stream.on("error", over);
    stream.on("end", () => over());
  }

  #retry(why: string): void {
    const { scheduler, log, socket } = this.#options;
    this.#failures++;
    this.#problem = `the SPIFFE Workload API at ${socket} does not answer: ${why}`;
    log.warn({ socket, error: why, failures: this.#failures }, "the SPIFFE Workload API does not answer; trying again");
    this.#cancel = scheduler.after(
      backoffMs(this.#failures, BACKOFF, () => scheduler.rng()),
      () => this.#listen(),
    );
  }

  #accept(response: X509SVIDResponse): void {
    const { spiffeId, log } = this.#options;
    try {
      const svid = response.svids.find((each) => spiffeId === undefined || each.spiffeId === spiffeId);
      if (svid === undefined) throw new BootstrapError("no-identity", `there is no SVID for ${spiffeId ?? "us"}`);
      const identity = this.#read(svid);
      this.#identity = identity;
      this.#problem = undefined;
      for (const listener of this.#listeners) listener(identity);
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error);
      log.error({ error: this.#problem }, "the SVID cannot be used; keeping the old one");
      this.#options.failed?.();
    }
  }

  #read(svid: X509SVID): WorkloadIdentity {
    const chain = splitDer(svid.x509Svid);
    const roots = splitDer(svid.bundle);
    const leaf = chain[0];
    if (leaf === undefined || roots.length === 0) throw new BootstrapError("no-identity", "the SVID is not complete");
    const pem = createPrivateKey({ key: Buffer.from(svid.x509SvidKey), format: "der", type: "pkcs8" });
    const key = importKey(exportKey(pem));
    if (key === undefined) throw new BootstrapError("no-identity", "the SVID's key is not ECDSA P-256");
    if (!leaf.publicKey.export({ type: "spki", format: "der" }).equals(publicKeyDer(key))) {
      throw new BootstrapError("no-identity", "the SVID's certificate is for another key");
    }
    const names = alternativeNames(leaf);
    const uri = names.find(({ kind }) => kind === "uri")?.value;
    if (uri !== svid.spiffeId)
      throw new BootstrapError("no-identity", "the SVID is for another SPIFFE ID than it says");
    const serverName = this.#options.serverName ?? names.find(({ kind }) => kind === "dns")?.value;
    if (serverName === undefined) {
      throw new BootstrapError("no-identity", "the SVID has no DNS name, and no server name is configured");
    }
    return {
      generation: (this.#identity?.generation ?? 0) + 1,
      // Peers name a client by its first name.
      name: names.find(({ kind }) => kind !== "other")?.value ?? uri,
      uri,
      serverName,
      keyPem: exportKey(key),
      certificatePem: chain.map(({ raw }) => derToPem(raw)).join(""),
      trustAnchorsPem: roots.map(({ raw }) => derToPem(raw)),
      ...validity(leaf),
    };
  }
}

/** Certificates as DER, one behind the other without any separator. @throws Error on anything else. */
function splitDer(bytes: Uint8Array): readonly X509Certificate[] {
  const certificates: X509Certificate[] = [];
  for (let at = 0; at < bytes.length; ) {
    // X.690 §8.1.3: a certificate has between 128 bytes and 64 KiB, so one or two length octets follow.
    const form = bytes[at + 1] ?? 0;
    const octets = form === 0x81 ? 1 : form === 0x82 ? 2 : 0;
    if (bytes[at] !== 0x30 || octets === 0 || certificates.length >= MAX_CERTIFICATES) {
      throw new BootstrapError("no-identity", "the SVID's certificates cannot be read");
    }
    const length = Buffer.from(bytes.buffer, bytes.byteOffset + at + 2, octets).readUIntBE(0, octets);
    const end = at + 2 + octets + length;
    certificates.push(new X509Certificate(bytes.subarray(at, end)));
    at = end;
  }
  return certificates;
}
