import { H, type HeaderList } from "../../core/header.ts";
import type { RequestHead } from "../../core/http.ts";

/**
 * Whether a request asks to leave HTTP: CONNECT, or HTTP/1.1 with an Upgrade field. The Connection field is not asked,
 * as Linkerd does not. `h2c`, also as one of several, is no such wish: it would carry requests past every policy.
 *
 * Fields of such a request and of the response that grants it go on unchanged; see {@link stripHopByHop} for the others.
 */
export function isUpgradeRequest(head: RequestHead): boolean {
  if (head.version !== "1.1") return false;
  if (head.method === "CONNECT") return true;
  const { names, values } = head.headers;
  let wanted = false;
  for (let i = 0; i < names.length; i++) {
    if (names[i]?.canonical !== H.upgrade) continue;
    if (/(?:^|,)\s*h2c\s*(?:,|$)/i.test(values[i] as string)) return false;
    wanted = true;
  }
  return wanted;
}

/**
 * Removes what is meant for this hop alone: Connection and the fields it names, Keep-Alive, Proxy-Connection, Upgrade.
 * TE keeps `trailers` and nothing else. Transfer-Encoding stays for the machines to judge. Framing and identity
 * (`l5d-…`) are not the peer's to remove.
 *
 * @returns The framing field that Connection names, in lower case, and then nothing was changed: refuse the message.
 * @see RFC 9110 §7.6.1
 */
export function stripHopByHop(headers: HeaderList): string | undefined {
  const { names, values } = headers;
  let found = false;
  let te = false;
  for (let i = 0; i < names.length; i++) {
    const name = names[i];
    if (name === undefined) continue;
    if (name.canonical === H.te) te = true;
    else if (name.hopByHop ? name.canonical !== H.transferEncoding : name.canonical === H.http2Settings) found = true;
  }
  if (found) {
    const named = namedByConnection(headers);
    if (typeof named === "string") return named;
    if (named !== undefined) for (const lower of named) headers.remove(lower);
    headers.remove(H.connection.lower);
    headers.remove(H.keepAlive.lower);
    headers.remove(H.proxyConnection.lower);
    headers.remove(H.upgrade.lower);
    // Goes with `Upgrade: h2c`, also when Connection forgets to name it, or there is none.
    headers.remove(H.http2Settings.lower);
  }
  if (te) {
    // RFC 9110 §10.1.4: other members are about transfer codings of this hop.
    const trailers = values.some(
      (value, i) => names[i]?.canonical === H.te && /(?:^|,)\s*trailers\s*(?:,|$)/i.test(value),
    );
    if (trailers) headers.set(H.te, "trailers");
    else headers.remove(H.te.lower);
  }
  return undefined;
}

/** The fields to remove, or the one that must not be named. */
function namedByConnection(headers: HeaderList): string | Set<string> | undefined {
  const { names, values } = headers;
  let named: Set<string> | undefined;
  for (let i = 0; i < names.length; i++) {
    if (names[i]?.canonical !== H.connection) continue;
    for (const option of (values[i] as string).split(",")) {
      const lower = option.trim().toLowerCase();
      switch (lower) {
        case "":
        case "close":
        case "keep-alive":
        case "te":
          break;
        case "host":
        case "content-length":
        case "transfer-encoding":
          return lower;
        default:
          if (lower.startsWith("l5d-")) break;
          named ??= new Set();
          named.add(lower);
      }
    }
  }
  return named;
}
