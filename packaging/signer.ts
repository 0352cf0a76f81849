import { execFileSync } from "node:child_process";

/** The release's key: whoever holds it is who package managers believe. */
export interface Signer {
  /** Fingerprint in hexadecimal digits. */
  readonly key: string;
  /** Writes a detached armoured signature of a file into another. */
  sign(file: string, signature: string): void;
  /** Writes a file with its text and signature in one, as apt's InRelease. */
  signInside(file: string, signed: string): void;
  /** Adds a signature to RPMs, in place. */
  signRpms(files: readonly string[]): void;
  /** The public half, armoured. */
  publicKey(): string;
}

/**
 * The key that `SIGNING_KEY` names, by fingerprint or user, in gpg's own home (`GNUPGHOME`). Its passphrase is the
 * business of gpg and its agent; nothing of it passes through here.
 *
 * @throws if none is named, or gpg has no secret half of it.
 */
export function signer(): Signer {
  const name = process.env["SIGNING_KEY"] ?? "";
  if (name === "")
    throw new Error("SIGNING_KEY is not set: expected fingerprint or user of a secret key in gpg's home, GNUPGHOME");
  const key = fingerprint(name);
  const gpg = (...args: readonly string[]) =>
    execFileSync("gpg", ["--batch", "--yes", "--local-user", key, "--digest-algo", "SHA512", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
  return {
    key,
    sign: (file, signature) => gpg("--armor", "--output", signature, "--detach-sign", file),
    signInside: (file, signed) => gpg("--output", signed, "--clear-sign", file),
    signRpms(files) {
      // Debian's macros name gpg2, which is gpg everywhere.
      const macros = { _gpg_name: key, _gpg_digest_algo: "sha512", __gpg: "/usr/bin/gpg" };
      const defined = Object.entries(macros).flatMap(([macro, value]) => ["--define", `${macro} ${value}`]);
      execFileSync("rpmsign", ["--addsign", ...defined, ...files], { stdio: ["ignore", "pipe", "pipe"] });
    },
    publicKey: () => gpg("--armor", "--export", key).toString(),
  };
}

function fingerprint(name: string): string {
  let found = "";
  try {
    found = execFileSync("gpg", ["--batch", "--with-colons", "--list-secret-keys", "--", name], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch {
    // Said below.
  }
  const key = /^fpr:+([0-9A-F]{40}):/m.exec(found)?.[1];
  if (key === undefined) throw new Error(`SIGNING_KEY ${name}: gpg has no secret key of that name`);
  return key;
}
