/**
 * A peer's text as one harmless line: no control characters, no line separators, no more than `max` characters. It goes
 * to terminals, logs and the Kubernetes API.
 */
export function printable(text: string, max: number): string {
  // Cut first: what a host sends may be long. A pair that was cut in two would make `encodeURI` throw, in grpc-js.
  return text
    .slice(0, max)
    .toWellFormed()
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ");
}
