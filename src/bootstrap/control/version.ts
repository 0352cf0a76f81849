/** `MAJOR.MINOR.PATCH` of this agent or enroller, as it introduces itself. */
export interface Version {
  readonly major: number;
  readonly minor: number;
}

/** @returns undefined if the text does not begin with `MAJOR.MINOR`. */
export function parseVersion(text: string): Version | undefined {
  const match = /^(\d{1,6})\.(\d{1,6})(?:\.|$)/.exec(text);
  return match === null ? undefined : { major: Number(match[1]), minor: Number(match[2]) };
}

/** A version from the wire as it may be shown: to a log, in an error. */
export function shownVersion(text: string): string {
  return /^[0-9A-Za-z.+-]{1,40}$/.test(text) ? text : "of unknown version";
}

/** Agent and enroller may differ by one minor version. */
export function compatible(ours: string, theirs: string): boolean {
  const a = parseVersion(ours);
  const b = parseVersion(theirs);
  return a !== undefined && b !== undefined && a.major === b.major && Math.abs(a.minor - b.minor) <= 1;
}
