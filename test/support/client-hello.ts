/** What goes into a ClientHello made by hand; everything has a harmless default. */
export interface HelloParts {
  readonly recordVersion?: number;
  readonly version?: number;
  readonly type?: number;
  /** Whole extensions, type and length included; undefined = no extensions block at all. */
  readonly extensions?: readonly Buffer[] | undefined;
  /** Bytes behind the extensions, inside the message. */
  readonly tail?: Buffer;
  /** Cuts the message into records of this many bytes. */
  readonly recordBytes?: number;
}

function uint16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}

function withLength16(...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([uint16(body.length), body]);
}

export function extension(type: number, body: Buffer): Buffer {
  return Buffer.concat([uint16(type), withLength16(body)]);
}

export function serverName(...names: readonly string[]): Buffer {
  const entries = names.map((name) => Buffer.concat([Buffer.of(0), withLength16(Buffer.from(name, "latin1"))]));
  return extension(0, withLength16(...entries));
}

export function alpn(...protocols: readonly string[]): Buffer {
  const entries = protocols.map((name) => Buffer.concat([Buffer.of(name.length), Buffer.from(name, "latin1")]));
  return extension(16, withLength16(...entries));
}

export function clientHello(parts: HelloParts = {}): Buffer {
  const { extensions, tail = Buffer.alloc(0) } = "extensions" in parts ? parts : { extensions: [] as Buffer[] };
  const body = Buffer.concat([
    uint16(parts.version ?? 0x0303),
    Buffer.alloc(32, 7),
    Buffer.of(4, 1, 2, 3, 4),
    withLength16(Buffer.of(0x13, 0x01, 0x13, 0x02)),
    Buffer.of(1, 0),
    ...(extensions === undefined ? [] : [withLength16(...extensions)]),
    tail,
  ]);
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.length);
  header[0] = parts.type ?? 1;
  const message = Buffer.concat([header, body]);
  const records: Buffer[] = [];
  const size = parts.recordBytes ?? message.length;
  for (let at = 0; at < message.length; at += size) {
    records.push(Buffer.of(0x16), uint16(parts.recordVersion ?? 0x0301), withLength16(message.subarray(at, at + size)));
  }
  return Buffer.concat(records);
}
