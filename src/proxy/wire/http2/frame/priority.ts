import { readUint31 } from "./header.ts";

/** RFC 9113 §6.3: dependency and weight, as a frame of their own or at the head of HEADERS. */
export const PRIORITY_BYTES = 5;

/**
 * Whether the priority block at `at` makes a stream depend on itself. Priorities are deprecated and otherwise ignored;
 * this one contradiction was an error in RFC 7540 §5.3.1 and peers' tests still expect it to be one.
 */
export function dependsOnItself(bytes: Buffer, at: number, streamId: number): boolean {
  return readUint31(bytes, at) === streamId;
}
