import { InvalidMessage, required } from "./invalid.ts";

/** A `google.protobuf.Duration`. */
interface Duration {
  readonly seconds: bigint;
  readonly nanos: number;
}

/**
 * Milliseconds, with fractions; undefined where the field is absent.
 * @throws InvalidMessage if it is negative.
 */
export function decodeDuration(message: Duration | undefined, what: string): number | undefined {
  if (message === undefined) return undefined;
  const ms = Number(message.seconds) * 1000 + message.nanos / 1e6;
  if (ms < 0) throw new InvalidMessage(`${what} is negative`);
  return ms;
}

/** @throws InvalidMessage if it is absent or negative. */
export function requiredDuration(message: Duration | undefined, what: string): number {
  return required(decodeDuration(message, what), what);
}

/** As {@link decodeDuration}; 0 means that there is no limit. */
export function decodeTimeout(message: Duration | undefined, what: string): number | undefined {
  return decodeDuration(message, what) || undefined;
}
