import { ProtocolError } from "../../core/errors.ts";

/** What the peer of an HTTP/1 connection did wrong. Every such fault costs the connection: where the next message begins is in doubt. */
export function refuse(code: number, section: string, message: string): ProtocolError {
  return new ProtocolError("remote", "connection", code, section, message);
}

/** What the caller of a machine asked for and cannot be said in HTTP/1. */
export function misuse(section: string, message: string): ProtocolError {
  return new ProtocolError("local", "connection", 500, section, message);
}
