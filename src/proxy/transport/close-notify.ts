/** The part of Node's TLS stream that is used here: what it runs on. */
interface TlsHandle {
  readonly _parent?: { readStart?(): number };
}

/**
 * Whether a TLS connection ends by a FIN alone, without the close_notify that says so in its peer's name (RFC 8446 §6.1): what
 * ends like this may have been cut by anybody on the way. Node tells of both in the same way. But libuv stops reading at a
 * FIN before it tells of it, and TLS tells of close_notify in the middle of reading, where a demand to read is answered by
 * UV_EALREADY.
 *
 * @param handle - Of a socket that is being read, within the call that tells of its end.
 * @returns false also where nobody knows, and for TCP without TLS.
 */
export function lacksCloseNotify(handle: unknown): boolean {
  return (handle as TlsHandle)._parent?.readStart?.() === 0;
}
