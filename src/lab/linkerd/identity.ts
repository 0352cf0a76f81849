// Its decorators need this, and before them.
import "reflect-metadata";
import { type Server, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import * as x509 from "@peculiar/x509";
import { grpcService, identity } from "../../proto/index.ts";
import type { Authority } from "../pki.ts";
import { CallFailure, failedPrecondition, invalidArgument } from "./failure.ts";
import { grpcError } from "./follow.ts";
import type { Init } from "./message.ts";

/** The answer of a TokenReview. */
export type TokenReview =
  | { readonly authenticated: true; readonly username: string }
  /** `error` is empty where the API server gives no reason. */
  | { readonly authenticated: false; readonly error: string };

/** Issues certificates to whoever shows a ServiceAccount's token. */
export interface IdentityOptions {
  /** Undefined while there is none. */
  readonly issuer: () => Authority | undefined;
  /** Asks the API server whose token this is; no audiences means its own. Throws if it cannot be asked. */
  readonly review: (token: string, audiences: readonly string[]) => TokenReview;
  readonly controlPlaneNamespace: string;
  readonly trustDomain: string;
  /** The chart's `identity.issuer.issuanceLifetime`. */
  readonly lifetimeMs: number;
  /** The chart's `identity.issuer.clockSkewAllowance`. */
  readonly skewMs: number;
  /** Wall clock, Unix milliseconds. */
  readonly now: () => number;
}

type Response = Init<typeof identity.CertifyResponseSchema>;

const AUDIENCE = "identity.l5d.io";
const SUBJECT_ALTERNATIVE_NAME = "2.5.29.17";

/** The identity service: one call, `Certify`. */
export function addIdentity(server: Server, options: IdentityOptions): void {
  const certifier = new Certifier(options);
  server.addService(grpcService(identity.Identity), {
    certify(call: ServerUnaryCall<identity.CertifyRequest, Response>, done: sendUnaryData<Response>): void {
      certifier.certify(call.request).then(
        (response) => done(null, response),
        (error: unknown) => done(grpcError(error)),
      );
    },
  });
}

/** Checks requests in the order of Linkerd's identity service, with its codes. */
export class Certifier {
  readonly #options: IdentityOptions;
  // Linkerd counts from one in every process, so its serials are not unique either.
  #serial = 0;

  constructor(options: IdentityOptions) {
    this.#options = options;
  }

  /** @throws CallFailure; any other error is code Unknown. */
  async certify(request: identity.CertifyRequest): Promise<Response> {
    const { now, lifetimeMs, skewMs } = this.#options;
    const issuer = this.#options.issuer();
    if (issuer === undefined) throw new CallFailure(status.UNAVAILABLE, "the issuer is not ready");
    if (request.identity === "") throw invalidArgument("missing identity");
    if (request.token.length === 0) throw invalidArgument("missing token");
    const csr = parseRequest(request.certificateSigningRequest);
    const nowMs = now();
    const endMs = Math.min(...[issuer.certificate, ...issuer.chain].map(({ validToDate }) => validToDate.getTime()));
    if (endMs <= nowMs) throw new Error("the issuer's certificate has expired");
    checkNames(csr, request.identity);
    const wanted = this.#identityOf(Buffer.from(request.token).toString("latin1"));
    if (wanted !== request.identity) {
      throw failedPrecondition(`requested identity did not match provided token: requested=${request.identity}`);
    }
    if (csr.publicKey.algorithm.name !== "ECDSA") {
      throw new CallFailure(status.INTERNAL, "unsupported key: only ECDSA is signed");
    }
    const notAfterMs = Math.min(nowMs + lifetimeMs + skewMs, endMs);
    this.#serial++;
    const leaf = await issuer.sign({
      names: { dns: [request.identity] },
      publicKey: Buffer.from(csr.publicKey.rawData),
      subject: csr.subjectName,
      validity: { notBeforeMs: nowMs - skewMs, notAfterMs },
      serial: this.#serial.toString(16).padStart(2, "0"),
    });
    return {
      leafCertificate: leaf,
      intermediateCertificates: issuer.chain.map(({ raw }) => raw),
      // Certificates know whole seconds only.
      validUntil: { seconds: BigInt(Math.floor(notAfterMs / 1000)) },
    };
  }

  #identityOf(token: string): string {
    const { controlPlaneNamespace, trustDomain } = this.#options;
    const review = this.#review(token);
    if (!review.authenticated) {
      if (review.error === "") throw failedPrecondition("token is not authenticated");
      throw invalidArgument(`token could not be validated: ${review.error}`);
    }
    const parts = review.username.split(":");
    const [system, ...names] = parts;
    // A ServiceAccount's name may hold dots in Kubernetes, but not here.
    const areLabels = names.every((name) => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name));
    if (parts.length !== 4 || system !== "system" || !areLabels) {
      throw invalidArgument(`invalid username: ${review.username}`);
    }
    const [kind, namespace, account] = names;
    return `${account}.${namespace}.${kind}.identity.${controlPlaneNamespace}.${trustDomain}`;
  }

  #review(token: string): TokenReview {
    try {
      const review = this.#options.review(token, [AUDIENCE]);
      // So ordinary API tokens pass as well: the second review is for the API server's own audience.
      const again = !review.authenticated && review.error.includes("token audiences");
      return again ? this.#options.review(token, []) : review;
    } catch (error) {
      throw new CallFailure(status.INTERNAL, `token review failed: ${error instanceof Error ? error.message : error}`);
    }
  }
}

/** DER only: the schema says PEM, but the service refuses that. */
function parseRequest(bytes: Uint8Array): x509.Pkcs10CertificateRequest {
  if (bytes.length === 0) throw invalidArgument("missing certificate signing request");
  // 0x30 is SEQUENCE; the library would also read text.
  if (bytes[0] !== 0x30) throw invalidArgument("certificate signing request is not DER");
  try {
    return new x509.Pkcs10CertificateRequest(Buffer.from(bytes));
  } catch {
    throw invalidArgument("certificate signing request could not be parsed");
  }
}

function checkNames(csr: x509.Pkcs10CertificateRequest, name: string): void {
  const extension = csr.getExtension(SUBJECT_ALTERNATIVE_NAME);
  const items = extension instanceof x509.SubjectAlternativeNameExtension ? extension.names.items : [];
  const dns = items.filter(({ type }) => type === "dns");
  if (dns.length !== 1) throw failedPrecondition("the request must have exactly one DNS name");
  if (dns[0]?.value !== name) throw failedPrecondition(`the request's DNS name is not ${name}`);
  const [commonName = ""] = csr.subjectName.getField("CN");
  if (commonName !== "" && commonName !== name) throw failedPrecondition(`the request's common name is not ${name}`);
  if (items.some(({ type }) => type === "email" || type === "ip" || type === "url")) {
    throw failedPrecondition("the request must not have e-mail, IP or URI names");
  }
}
