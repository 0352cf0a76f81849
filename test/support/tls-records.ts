/** What a bystander sees of a TLS connection: its first record, and the version that the server chose. */

const HANDSHAKE_RECORD = 22;
const SERVER_HELLO = 2;
const SUPPORTED_VERSIONS = 43;
/** RFC 8446 §4.2.1. */
export const TLS_1_3 = 0x0304;

/** Whether a stream begins with a handshake record: type 22, version 3.x (RFC 8446 §5.1). */
export function beginsWithTls(stream: Buffer): boolean {
  return stream[0] === HANDSHAKE_RECORD && stream[1] === 3 && (stream[2] ?? 255) <= 4;
}

/**
 * The version that a server's first flight selects: that of the extension, or else of the hello itself.
 * @returns undefined if the stream does not begin with a whole ServerHello.
 * @see RFC 8446 §4.1.3
 */
export function selectedVersion(stream: Buffer): number | undefined {
  if (!beginsWithTls(stream) || stream.length < 9 || stream[5] !== SERVER_HELLO) return undefined;
  const end = 9 + stream.readUIntBE(6, 3);
  if (stream.length < end) return undefined;
  const hello = stream.subarray(9, end);
  const sessionIdBytes = hello[34] ?? 0;
  // Version, random, session id; then cipher suite and compression method.
  let at = 35 + sessionIdBytes + 3;
  if (at + 2 > hello.length) return hello.readUInt16BE(0);
  const extensionsEnd = at + 2 + hello.readUInt16BE(at);
  for (at += 2; at + 4 <= extensionsEnd; ) {
    const length = hello.readUInt16BE(at + 2);
    if (hello.readUInt16BE(at) === SUPPORTED_VERSIONS) return hello.readUInt16BE(at + 4);
    at += 4 + length;
  }
  return hello.readUInt16BE(0);
}
