import { createPrivateKey } from "node:crypto";
import type { Socket } from "node:net";
import {
  type handleServerStreamingCall,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { SpiffeWorkloadAPI } from "../../proto/gen/spiffe/workload_pb.ts";
import { grpcService } from "../../proto/grpc.ts";
import type { IdentitySource, WorkloadIdentity } from "../../proxy/core/identity.ts";

export interface WorkloadApiServerOptions {
  readonly identity: IdentitySource;
}

type Stream = ServerWritableStream<unknown, object>;

interface Refusal {
  readonly code: status;
  readonly details: string;
}

const DENIED: Refusal = { code: status.PERMISSION_DENIED, details: "this program is not allowed the host's identity" };
// SPIFFE Workload API §4.1: a request that a browser or a proxy was tricked into has not got it.
const NO_HEADER: Refusal = { code: status.INVALID_ARGUMENT, details: "the metadata workload.spiffe.io is not true" };
const NO_JWT: Refusal = { code: status.UNIMPLEMENTED, details: "there are no JWT-SVIDs here" };

/**
 * Answers the X.509 calls of the Workload API. A refused program hears so as the specification wants it, not as a
 * closed connection: it must be able to tell a missing right from a missing agent.
 *
 * @see SPIFFE Workload API §4 (transport), §5 (X.509-SVID profile)
 */
export class WorkloadApiServer {
  readonly #identity: IdentitySource;
  readonly #servers: readonly Server[];
  readonly #granted: ReturnType<Server["createConnectionInjector"]>;
  readonly #refused: ReturnType<Server["createConnectionInjector"]>;

  constructor({ identity }: WorkloadApiServerOptions) {
    this.#identity = identity;
    const granted = service({
      fetchX509SVID: (call) => this.#follow(call, answerSvid),
      fetchX509Bundles: (call) => this.#follow(call, answerBundles),
    });
    // grpc-js does not tell a call's socket, so that who connected must decide which server it speaks to.
    const refused = service({
      fetchX509SVID: (call) => end(call, DENIED),
      fetchX509Bundles: (call) => end(call, DENIED),
    });
    this.#servers = [granted, refused];
    this.#granted = granted.createConnectionInjector(ServerCredentials.createInsecure());
    this.#refused = refused.createConnectionInjector(ServerCredentials.createInsecure());
  }

  /** Serves a connection. @param allowed - Whether whoever opened it may have the identity. */
  serve(socket: Socket, allowed: boolean): void {
    socket.on("error", () => socket.destroy());
    (allowed ? this.#granted : this.#refused).injectConnection(socket);
  }

  close(): void {
    this.#granted.destroy();
    this.#refused.destroy();
    for (const server of this.#servers) server.forceShutdown();
  }

  /** Answers with what is there, and again whenever it is another. */
  #follow(call: Stream, answer: (identity: WorkloadIdentity) => object | undefined): void {
    if (!isMarked(call.metadata)) return end(call, NO_HEADER);
    const say = (identity: WorkloadIdentity) => {
      const message = answer(identity);
      if (message === undefined) end(call, DENIED);
      else call.write(message);
    };
    const stop = this.#identity.subscribe(say);
    call.on("cancelled", stop);
    call.on("close", stop);
    const current = this.#identity.current();
    if (current !== undefined) say(current);
  }
}

function service(x509: Readonly<Record<"fetchX509SVID" | "fetchX509Bundles", (call: Stream) => void>>): Server {
  const server = new Server({ "grpc.max_receive_message_length": 4096, "grpc.max_concurrent_streams": 16 });
  const refusal = ({ metadata }: { readonly metadata: Metadata }) => (isMarked(metadata) ? NO_JWT : NO_HEADER);
  const none = (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>) => callback(refusal(call));
  server.addService(grpcService(SpiffeWorkloadAPI), {
    fetchX509SVID: x509.fetchX509SVID as handleServerStreamingCall<unknown, unknown>,
    fetchX509Bundles: x509.fetchX509Bundles as handleServerStreamingCall<unknown, unknown>,
    fetchJWTSVID: none,
    fetchJWTBundles: ((call: Stream) => end(call, refusal(call))) as handleServerStreamingCall<unknown, unknown>,
    validateJWTSVID: none,
  });
  return server;
}

function isMarked(metadata: Metadata): boolean {
  return metadata.get("workload.spiffe.io")[0] === "true";
}

function end(call: Stream, refusal: Refusal): void {
  // grpc-js ends a stream with the status that its `error` event carries.
  call.emit("error", refusal);
}

/** @returns undefined if the certificate names no SPIFFE ID. */
function answerSvid(identity: WorkloadIdentity): object | undefined {
  const { uri, certificatePem, keyPem } = identity;
  if (uri === undefined) return undefined;
  return {
    svids: [
      {
        spiffeId: uri,
        x509Svid: derOf(certificatePem),
        x509SvidKey: createPrivateKey(keyPem).export({ type: "pkcs8", format: "der" }),
        bundle: derOf(identity.trustAnchorsPem.join("")),
      },
    ],
  };
}

function answerBundles(identity: WorkloadIdentity): object | undefined {
  const domain = /^spiffe:\/\/[^/]+/.exec(identity.uri ?? "")?.[0];
  return domain === undefined ? undefined : { bundles: { [domain]: derOf(identity.trustAnchorsPem.join("")) } };
}

/** Certificates behind each other, without any separator, as the Workload API wants them. */
function derOf(pem: string): Buffer {
  const blocks = pem.matchAll(/-----BEGIN CERTIFICATE-----([\s\S]*?)-----END CERTIFICATE-----/g);
  return Buffer.concat([...blocks].map(([, body = ""]) => Buffer.from(body, "base64")));
}
