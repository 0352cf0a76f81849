import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

const DAY_MS = 86_400_000;

/** A certificate with its key, both PEM. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/**
 * Makes a self-signed certificate for the API server: kubectl sends a bearer token over TLS only.
 *
 * @param addresses - IP addresses it is valid for; `localhost` and `kubernetes.default.svc` always are.
 */
export async function selfSigned(addresses: readonly string[], now = Date.now()): Promise<KeyPair> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: "CN=mesh-agent-lab",
      keys: keys as webcrypto.CryptoKeyPair,
      signingAlgorithm: algorithm,
      notBefore: new Date(now - 60_000),
      notAfter: new Date(now + 30 * DAY_MS),
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new SubjectAlternativeNameExtension([
          { type: "dns", value: "localhost" },
          { type: "dns", value: "kubernetes.default.svc" },
          ...addresses.map((value) => ({ type: "ip" as const, value })),
        ]),
      ],
    },
    webcrypto as Crypto,
  );
  const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { cert: certificate.toString("pem"), key: PemConverter.encode(key, "PRIVATE KEY") };
}
