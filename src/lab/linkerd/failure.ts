import { status } from "@grpc/grpc-js";

/** A call that is answered with a gRPC status instead of a message. */
export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly code: status;

  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

export const invalidArgument = (message: string): CallFailure => new CallFailure(status.INVALID_ARGUMENT, message);
export const failedPrecondition = (message: string): CallFailure =>
  new CallFailure(status.FAILED_PRECONDITION, message);
/** What a Go server answers where its code returns an error that is no gRPC status. */
export const unknown = (message: string): CallFailure => new CallFailure(status.UNKNOWN, message);
export const notFound = (message: string): CallFailure => new CallFailure(status.NOT_FOUND, message);
