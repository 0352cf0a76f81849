/** A message of the control plane that makes no sense as a whole. Caught where a policy is decoded, never further up. */
export class InvalidMessage extends Error {
  override readonly name = "InvalidMessage";
}

/** @throws InvalidMessage if a required field is absent. */
export function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new InvalidMessage(`${what} is missing`);
  return value;
}
