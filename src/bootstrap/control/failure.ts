import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { WRONG_NAME } from "./channel.ts";
import { BootstrapError, type FailureCode, isFailureCode } from "./errors.ts";
import { printable } from "./printable.ts";

// It goes to a terminal and a log.
const MAX_DETAILS = 512;
const CODE_KEY = "mesh-agent-code";

/** What a gRPC handler ends with. */
export interface Refusal {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;
}

/**
 * Turns what a handler threw into a gRPC status. Only a {@link BootstrapError} tells the host anything; the rest is for
 * our log.
 */
export function refusalOf(error: unknown): Refusal {
  const known =
    error instanceof BootstrapError ? error : new BootstrapError("try-again", "the enroller could not do it just now");
  const metadata = new Metadata();
  metadata.set(CODE_KEY, known.code);
  return { code: statusOf(known.code), details: printable(known.message, MAX_DETAILS), metadata };
}

/** Turns the error of a call into one that names cause and remedy. */
export function failureOf(error: ServiceError, address: string): BootstrapError {
  const code = error.metadata?.get(CODE_KEY)[0];
  if (typeof code === "string" && isFailureCode(code))
    return new BootstrapError(code, printable(error.details, MAX_DETAILS));
  const details = printable(error.details ?? error.message, MAX_DETAILS);
  if (details.includes(WRONG_NAME)) return new BootstrapError("enroller-name", `${address}: ${details}`);
  switch (error.code) {
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
    case status.CANCELLED:
      return new BootstrapError("unreachable", `the enroller at ${address} did not answer: ${details}`);
    case status.RESOURCE_EXHAUSTED:
    case status.ABORTED:
      return new BootstrapError("rate-limited", `the enroller at ${address} is busy: ${details}`);
    case status.UNIMPLEMENTED:
      return new BootstrapError("version-skew", `the enroller at ${address} does not know this call: ${details}`);
    default:
      return new BootstrapError("try-again", `the enroller at ${address} failed: ${details}`);
  }
}

function statusOf(code: FailureCode): status {
  switch (code) {
    case "try-again":
    case "unreachable":
      return status.UNAVAILABLE;
    case "rate-limited":
      return status.RESOURCE_EXHAUSTED;
    case "no-identity":
      return status.UNAUTHENTICATED;
    case "version-skew":
    case "request-refused":
      return status.INVALID_ARGUMENT;
    default:
      return status.PERMISSION_DENIED;
  }
}
