import { matchClasses } from "./match/index.ts";
import type { ClassifyRule } from "./model.ts";

/** gRPC codes that count as failures: Unknown, DeadlineExceeded, PermissionDenied, Internal, Unavailable, DataLoss. */
export function isGrpcFailure(code: number): boolean {
  return code === 2 || code === 4 || code === 7 || code === 13 || code === 14 || code === 15;
}

/**
 * Whether a finished response counts as a failure.
 *
 * @param grpcRequest - The request's content type begins with `application/grpc`.
 * @param grpcStatus - From headers or trailers; undefined where the response has none, which is a success in gRPC.
 * @see outbound.md §6.1, §9.4
 */
export function isFailure(
  rule: ClassifyRule,
  grpcRequest: boolean,
  status: number,
  grpcStatus: number | undefined,
): boolean {
  switch (rule.kind) {
    case "http":
      return grpcRequest ? grpcStatus !== undefined && isGrpcFailure(grpcStatus) : isServerError(status);
    case "grpc":
      return grpcStatus !== undefined && isGrpcFailure(grpcStatus);
    case "profile": {
      const verdict = matchClasses(rule.classes, status);
      if (verdict !== undefined) return verdict;
      // A profile looks at grpc-status wherever it appears; without one the status decides, for gRPC as well.
      return grpcStatus === undefined ? status >= 500 : isGrpcFailure(grpcStatus);
    }
    default:
      return rule satisfies never;
  }
}

function isServerError(status: number): boolean {
  return status >= 500 && status <= 599;
}
