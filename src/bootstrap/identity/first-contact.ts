import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import tls, { type DetailedPeerCertificate } from "node:tls";
import type { Millis } from "../../proxy/core/clock.ts";
import { BootstrapError, certificatePin, derToPem, enrollerName, type JoinString, validity } from "../control/index.ts";

/** A host whose clock is further off cannot judge any certificate. */
const MAX_SKEW_MS = 300_000;

/**
 * Looks once, without trust, at the chain that an enroller address shows, and takes from it the root that the join
 * string pins. Nothing is sent: whether the server holds a key under that root is decided by the connection that
 * follows, with this root as the only anchor.
 *
 * @returns the root, PEM.
 * @throws BootstrapError `unreachable`; `pin-mismatch` if something answers but shows no pinned root; `clock-skew`.
 */
export function findPinnedRoot(
  address: string,
  join: JoinString,
  wallMs: number,
  timeoutMs: Millis = 5000,
): Promise<string> {
  const { host, port } = splitAddress(address);
  const serverName = enrollerName(join);
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      host,
      port,
      servername: serverName,
      minVersion: "TLSv1.3",
      // By design: the pin is the trust.
      rejectUnauthorized: false,
    });
    const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    socket.once("close", () => clearTimeout(timer));
    socket.on("error", (error) => {
      reject(new BootstrapError("unreachable", `the enroller at ${address} did not answer: ${error.message}`));
    });
    socket.once("secureConnect", () => {
      try {
        resolve(pick(chainOf(socket.getPeerCertificate(true)), join, address, wallMs));
      } catch (error) {
        reject(error);
      } finally {
        socket.destroy();
      }
    });
  });
}

function pick(chain: readonly X509Certificate[], join: JoinString, address: string, wallMs: number): string {
  const root = chain.find((certificate) => join.pins.some((pin) => pin.equals(certificatePin(certificate))));
  if (root === undefined) {
    throw new BootstrapError("pin-mismatch", `${address} does not show a root certificate that the join string pins`);
  }
  const [leaf] = chain;
  // Said before the strict handshake fails with less clear words. The leaf is not verified yet, but nothing depends on it.
  const ahead = leaf === undefined ? 0 : validity(leaf).notBeforeMs - wallMs;
  if (ahead > MAX_SKEW_MS) {
    const moment = new Date(wallMs + ahead).toISOString();
    throw new BootstrapError(
      "clock-skew",
      `this host's clock is behind: the enroller's certificate begins at ${moment}`,
    );
  }
  return derToPem(root.raw);
}

/** Leaf first, as sent; a self-signed root is its own issuer and ends the walk. */
function chainOf(leaf: DetailedPeerCertificate): readonly X509Certificate[] {
  const chain: X509Certificate[] = [];
  for (let next: DetailedPeerCertificate | undefined = leaf; next?.raw !== undefined && chain.length < 16; ) {
    chain.push(new X509Certificate(next.raw));
    next = next.issuerCertificate === next ? undefined : next.issuerCertificate;
  }
  return chain;
}

function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port < 1 || port > 65535 || (match?.[1] !== undefined && isIP(host) !== 6)) {
    throw new BootstrapError("join-string-malformed", "the join string names an address that is none");
  }
  return { host, port };
}
