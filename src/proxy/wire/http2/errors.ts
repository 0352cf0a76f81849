import { ProtocolError } from "../../core/errors.ts";

/** RFC 9113 §7. */
export const ErrorCode = {
  noError: 0x0,
  protocolError: 0x1,
  internalError: 0x2,
  flowControlError: 0x3,
  settingsTimeout: 0x4,
  streamClosed: 0x5,
  frameSizeError: 0x6,
  refusedStream: 0x7,
  cancel: 0x8,
  compressionError: 0x9,
  connectError: 0xa,
  enhanceYourCalm: 0xb,
  inadequateSecurity: 0xc,
  http11Required: 0xd,
} as const;

/**
 * The peer broke a rule that costs the whole connection. Thrown inside the machine and caught by `receive`, which
 * answers with GOAWAY and reports it.
 */
export function connectionError(code: number, section: string, message: string): ProtocolError {
  return new ProtocolError("remote", "connection", code, section, message);
}
