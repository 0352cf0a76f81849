/** An inclusive range of ports. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** A port with a name, as containers, Services and ExternalWorkloads declare them. */
export interface NamedPort {
  readonly name?: string;
  readonly port: number;
}

/**
 * Reads a list as the destination controller does: numbers, ranges, and names of declared ports. What cannot be read
 * is skipped.
 */
export function parsePorts(text: string, declared: readonly NamedPort[] = []): readonly PortRange[] {
  const ranges: PortRange[] = [];
  for (const item of items(text)) {
    const range = parseRange(item);
    if (range !== undefined) ranges.push(range);
    else for (const { name, port } of declared) if (name === item) ranges.push({ from: port, to: port });
  }
  return ranges;
}

/**
 * Reads a list as the policy controller does: numbers and ranges. One item that is neither makes the whole list empty,
 * which is an accident that operators meet when they write a port's name.
 */
export function parseStrictPorts(text: string): readonly PortRange[] {
  const ranges: PortRange[] = [];
  for (const item of items(text)) {
    const range = parseRange(item);
    if (range === undefined) return [];
    ranges.push(range);
  }
  return ranges;
}

export function includesPort(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some(({ from, to }) => from <= port && port <= to);
}

function items(text: string): readonly string[] {
  return text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

function parseRange(item: string): PortRange | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(item);
  if (match === null) return undefined;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  return from >= 1 && from <= to && to <= 65535 ? { from, to } : undefined;
}
