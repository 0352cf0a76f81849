import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { PackageInput } from "../../packaging/payload.ts";
import { buildRepository } from "../../packaging/repository.ts";
import { signer } from "../../packaging/signer.ts";
import { ARCHITECTURES } from "../../scripts/node-base.ts";
import { deb, input, rpm } from "./built.ts";

// Short: gpg-agent's socket lies in it, and sockets have short names.
const scratch = mkdtempSync(join(tmpdir(), "ma-repo-"));
const repository = join(scratch, "repo");
/** Where the containers find it. */
const AT = "/srv/mesh-agent";
const USER = "mesh-agent tests <tests@mesh-agent.invalid>";

const gpg = (...args: readonly string[]) =>
  execFileSync("gpg", ["--batch", ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

beforeAll(async () => {
  const home = join(scratch, "gnupg");
  mkdirSync(home, { mode: 0o700 });
  vi.stubEnv("GNUPGHOME", home);
  vi.stubEnv("SIGNING_KEY", USER);
  // For this run only, and only to sign: releases are signed by a key that comes from outside.
  gpg("--quiet", "--passphrase", "", "--quick-generate-key", USER, "rsa3072", "sign", "1d");
  const packages: string[] = [];
  const inputs: PackageInput[] = [];
  for (const architecture of ARCHITECTURES) {
    inputs.push(await input(architecture));
    packages.push(await deb(architecture), await rpm(architecture));
  }
  buildRepository(packages, inputs, signer(), repository, `file://${AT}`);
}, 900_000);

afterAll(() => {
  execFileSync("gpgconf", ["--kill", "all"]);
  vi.unstubAllEnvs();
  rmSync(scratch, { recursive: true, force: true });
});

const read = (name: string) => readFileSync(join(repository, name), "utf8");

describe("what vouches for the packages", () => {
  test("is signed: checksums, provenance, both indexes, each RPM; a changed byte is found", () => {
    const keyring = join(scratch, "keyring.gpg");
    gpg("--no-default-keyring", "--keyring", keyring, "--import", join(repository, "mesh-agent.asc"));
    const verify = (...files: readonly string[]) =>
      execFileSync("gpgv", ["--keyring", keyring, ...files.map((name) => join(repository, name))], { stdio: "pipe" });
    for (const name of ["SHA256SUMS", "provenance.json", "yum/repodata/repomd.xml"]) verify(`${name}.asc`, name);
    verify("apt/dists/stable/InRelease");
    verify("apt/dists/stable/Release.gpg", "apt/dists/stable/Release");
    const rpmdb = join(scratch, "rpmdb");
    const rpmkeys = (...args: readonly string[]) =>
      execFileSync("rpmkeys", ["--dbpath", rpmdb, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    rpmkeys("--import", join(repository, "mesh-agent.asc"));
    const signed = sums().filter(({ name }) => name.endsWith(".rpm"));
    expect(signed).toHaveLength(2);
    for (const { name } of signed)
      expect(rpmkeys("--checksig", "--define", "_pkgverify_level all", join(repository, name))).toContain(
        "signatures OK",
      );

    const forged = join(repository, "SHA256SUMS");
    const honest = readFileSync(forged);
    writeFileSync(
      forged,
      honest.toString().replace(/^[0-9a-f]/, (digit) => (digit === "0" ? "1" : "0")),
    );
    expect(() => verify("SHA256SUMS.asc", "SHA256SUMS")).toThrow("BAD signature");
    writeFileSync(forged, honest);
  });

  const sums = () =>
    read("SHA256SUMS")
      .trim()
      .split("\n")
      .map((line) => line.split("  "))
      .map(([sha256, name]) => ({ sha256, name: name as string }));

  test("covers every package, and names the inputs: commit, runtime and npm packages by the lock file's hashes", () => {
    execFileSync("sha256sum", ["--check", "--strict", "--quiet", "SHA256SUMS"], { cwd: repository });
    const packages = sums().filter(({ name }) => /\.(?:deb|rpm)$/.test(name));
    expect(packages).toHaveLength(4);
    const statement = JSON.parse(read("provenance.json")) as Statement;
    expect(statement._type).toBe("https://in-toto.io/Statement/v1");
    expect(statement.predicateType).toBe("https://slsa.dev/provenance/v1");
    expect(statement.subject.map(({ name, digest }) => ({ name, sha256: digest.sha256 }))).toEqual(
      packages.sort((a, b) => (a.name < b.name ? -1 : 1)),
    );
    const inputs = statement.predicate.buildDefinition.resolvedDependencies;
    const { packages: locked } = JSON.parse(readFileSync("package-lock.json", "utf8")) as {
      readonly packages: Readonly<Record<string, { readonly version: string; readonly integrity: string }>>;
    };
    for (const architecture of ARCHITECTURES) {
      const { version, integrity } = locked[`node_modules/node-linux-${architecture}`] ?? {
        version: "",
        integrity: "",
      };
      expect(inputs).toContainEqual({
        uri: `pkg:npm/node-linux-${architecture}@${version}`,
        digest: { sha512: Buffer.from(integrity.slice("sha512-".length), "base64").toString("hex") },
      });
    }
    const commit = inputs.find(({ uri }) => uri.startsWith("git+"))?.digest?.["gitCommit"];
    expect(commit).toBe(execFileSync("git", ["rev-parse", "HEAD"], { encoding: "utf8" }).trim());
    expect(statement.predicate.runDetails.builder.id).toMatch(/^https:/);
  });

  test("needs a key that is named and there", () => {
    vi.stubEnv("SIGNING_KEY", "");
    expect(() => signer()).toThrow("SIGNING_KEY is not set");
    vi.stubEnv("SIGNING_KEY", "somebody@example.invalid");
    expect(() => signer()).toThrow("gpg has no secret key of that name");
    vi.stubEnv("SIGNING_KEY", USER);
  });
});

interface Statement {
  readonly _type: string;
  readonly predicateType: string;
  readonly subject: readonly { readonly name: string; readonly digest: { readonly sha256: string } }[];
  readonly predicate: {
    readonly buildDefinition: {
      readonly resolvedDependencies: readonly {
        readonly uri: string;
        readonly digest?: Readonly<Record<string, string>>;
      }[];
    };
    readonly runDetails: { readonly builder: { readonly id: string } };
  };
}
