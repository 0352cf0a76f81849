import type { TLSSocket } from "node:tls";
import { fromBinary } from "@bufbuild/protobuf";
import { transportHeader } from "../../proto/index.ts";

/** The protocol that a client offers on a proxy's own port. */
export const DIRECT_ALPN = "transport.l5d.io/v1";

const PREFACE = Buffer.from("transport.l5d.io/v1\r\n\r\n");
const LENGTH_BYTES = 4;
const MAX_MESSAGE_BYTES = 65_536;
const PATIENCE_MS = 10_000;

/**
 * Reads the transport header at the beginning of a connection and leaves what follows unread. Whatever is not a
 * header, or does not come in time, ends the connection without a word.
 *
 * It decodes with the generated message, not with the agent's codec, so that the lab does not share its mistakes.
 */
export function readDirectHeader(socket: TLSSocket, done: (header: transportHeader.Header) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), PATIENCE_MS);
  const stop = (): void => {
    clearTimeout(timer);
    socket.off("readable", read);
    socket.off("close", stop);
    socket.off("end", cut);
  };
  const cut = (): void => {
    socket.destroy();
  };
  const read = (): void => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    seen = Buffer.concat([seen, chunk]);
    const decoded = decode(seen);
    if (decoded === "more") return;
    stop();
    if (decoded === "no") {
      socket.destroy();
      return;
    }
    const rest = seen.subarray(decoded.consumed);
    if (rest.length > 0) socket.unshift(rest);
    done(decoded.header);
  };
  socket.on("readable", read);
  socket.once("close", stop);
  socket.once("end", cut);
}

type Decoded = "more" | "no" | { readonly header: transportHeader.Header; readonly consumed: number };

function decode(bytes: Buffer): Decoded {
  const start = PREFACE.length + LENGTH_BYTES;
  const known = Math.min(bytes.length, PREFACE.length);
  if (!bytes.subarray(0, known).equals(PREFACE.subarray(0, known))) return "no";
  if (bytes.length < start) return "more";
  const length = bytes.readUInt32BE(PREFACE.length);
  if (length > MAX_MESSAGE_BYTES) return "no";
  if (bytes.length < start + length) return "more";
  try {
    const header = fromBinary(transportHeader.HeaderSchema, bytes.subarray(start, start + length));
    return header.port < 1 || header.port > 65_535 ? "no" : { header, consumed: start + length };
  } catch {
    return "no";
  }
}
