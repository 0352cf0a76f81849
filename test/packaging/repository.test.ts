import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { PackageInput } from "../../packaging/payload.ts";
import { buildRepository } from "../../packaging/repository.ts";
import { buildRpmOf } from "../../packaging/rpm.ts";
import { signer } from "../../packaging/signer.ts";
import { ARCHITECTURES } from "../../scripts/node-base.ts";
import { deb, input, rpm } from "./built.ts";
import { Container } from "./container.ts";
import { standing } from "./standing.ts";

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

describe("on a machine that systemd runs, without a network", () => {
  let vm: Container;
  const shell = (line: string) => vm.run("sh", "-c", line);
  /** Flips one bit in the middle of the installed program. */
  const tamper = () => {
    const middle = Number(vm.run("stat", "-c", "%s", "/usr/bin/mesh-agent")) >> 1;
    const byte = Number(shell(`od -An -tu1 -j${middle} -N1 /usr/bin/mesh-agent`));
    const octal = (byte ^ 1).toString(8).padStart(3, "0");
    // In a copy that takes its place: a program that runs cannot be written.
    const copy = "/usr/bin/mesh-agent.tampered";
    vm.run("cp", "-p", "/usr/bin/mesh-agent", copy);
    shell(`printf '\\${octal}' | dd of=${copy} bs=1 seek=${middle} conv=notrunc status=none`);
    vm.run("mv", copy, "/usr/bin/mesh-agent");
  };
  /** What a package might leave. */
  const traces = () => ({
    users: shell("cat /etc/passwd /etc/group"),
    ruleset: vm.exec("nft", "list", "ruleset").stdout,
    // The package managers' own notes on the repository are theirs.
    files: shell(
      "find /etc /usr /var/lib /run -xdev -iname '*mesh-agent*' | grep -v -E '/(apt|dnf|yum.repos.d)/' | sort",
    ),
    units: shell("systemctl list-unit-files --no-legend 'mesh-agent*' || true"),
  });
  let before: ReturnType<typeof traces>;

  beforeAll(async () => {
    vm = await Container.boot();
    vm.run("mkdir", "-p", "/srv");
    vm.copyIn(repository, AT);
    before = traces();
  }, 900_000);
  afterAll(() => vm?.stop(), 60_000);

  test("`apt install mesh-agent` finds it by name, and believes no index that somebody changed", () => {
    shell("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*");
    vm.run("cp", `${AT}/mesh-agent.sources`, "/etc/apt/sources.list.d/");
    const index = `${AT}/apt/dists/stable/InRelease`;
    shell(`cp ${index} /root/ && sed -i 's/^Label: .*/Label: forged/' ${index}`);
    expect(vm.exec("apt-get", "update", "--error-on=any").code).not.toBe(0);
    shell(`cp /root/InRelease ${index}`);
    vm.run("apt-get", "update", "-q", "--error-on=any");
    vm.run("apt-get", "install", "-y", "-q", "mesh-agent");
    expect(vm.run("mesh-agent", "--version").trim()).toMatch(/^\d+\.\d+\.\d+$/);
  }, 120_000);

  test("`dpkg -V` finds one changed bit of the program", () => {
    expect(vm.run("dpkg", "-V", "mesh-agent")).toBe("");
    tamper();
    expect(vm.exec("dpkg", "-V", "mesh-agent").stdout).toMatch(/^\?\?5\?{6}\s+\/usr\/bin\/mesh-agent$/m);
    vm.run("apt-get", "purge", "-y", "-q", "mesh-agent");
    expect(traces()).toEqual(before);
  }, 120_000);

  test("`dnf install mesh-agent` finds it by name, and takes nothing that is not signed", () => {
    // Not a distribution of RPMs: what Debian's packages bring is told to rpm by a package without files.
    vm.copyIn(standIn(), "/root/stand-in.rpm");
    vm.run("rpm", "-i", "/root/stand-in.rpm");
    shell(`mkdir -p /etc/yum.repos.d && cp ${AT}/mesh-agent.repo /etc/yum.repos.d/`);
    const unsigned = `${AT}/yum/unsigned.rpm`;
    vm.copyIn(unsignedRpm, unsigned);
    expect(vm.exec("dnf", "install", "-y", "--setopt=localpkg_gpgcheck=1", unsigned).code).not.toBe(0);
    vm.run("rm", unsigned);
    vm.run("dnf", "install", "-y", "mesh-agent");
    expect(vm.run("rpm", "-q", "mesh-agent")).toMatch(/^mesh-agent-\d+\.\d+\.\d+-1\./);
    expect(vm.run("mesh-agent", "config", "check")).toContain("no errors");
    expect(vm.run("id", "-un", "mesh-agent").trim()).toBe("mesh-agent");
    // Nothing starts or is enabled by itself.
    expect(vm.exec("systemctl", "is-active", "mesh-agent.service").stdout.trim()).toBe("inactive");
    expect(vm.exec("systemctl", "is-enabled", "mesh-agent.service").stdout.trim()).toBe("disabled");
  }, 180_000);

  test.each(["upgrade", "downgrade", "reinstall"])(
    "`dnf %s` hands over to the installed program on the same sockets, and stops nothing",
    async (what) => {
      if (what === "upgrade") await start();
      const before = { pid: mainPid(), sockets: sockets() };
      expect(before.sockets).not.toBe("");
      vm.run("dnf", what, "-y", "--nogpgcheck", ...(what === "upgrade" ? [NEXT] : ["mesh-agent"]));
      expect(vm.run("rpm", "-q", "mesh-agent")).toMatch(what === "upgrade" ? /-2\./ : /-1\./);
      expect(vm.exec("systemctl", "is-active", "mesh-agent.service").stdout.trim()).toBe("active");
      expect(mainPid()).not.toBe(before.pid);
      expect(vm.run("readlink", `/proc/${mainPid()}/exe`).trim()).toBe("/usr/bin/mesh-agent");
      expect(sockets()).toBe(before.sockets);
      expect(vm.run("curl", "-sS", "-m", "10", "http://127.0.0.1:4191/live")).toContain("live");
      await vm.until("the predecessor has gone", () => vm.exec("test", "-d", `/proc/${before.pid}`).code !== 0);
    },
    120_000,
  );

  const NEXT = "/root/next.rpm";
  const mainPid = () => vm.run("systemctl", "show", "-p", "MainPID", "--value", "mesh-agent.service").trim();
  const sockets = () => shell("ss -ltneH '( sport = 4143 or sport = 4140 )' | grep -o 'ino:[0-9]*' | sort");
  /** An agent without a mesh: enough to be replaced while it runs. */
  const start = async () => {
    const next = { ...(await input()), directory: scratch };
    vm.copyIn(buildRpmOf({ ...next, release: { ...next.release, revision: "2" } }), NEXT);
    const folder = join(scratch, "standing");
    mkdirSync(folder);
    await standing(folder, "/var/lib/mesh-agent/identity");
    vm.run("install", "-d", "-m", "0700", "-o", "mesh-agent", "-g", "mesh-agent", "/var/lib/mesh-agent");
    vm.copyIn(folder, "/var/lib/mesh-agent/identity");
    vm.run("chown", "-R", "mesh-agent:mesh-agent", "/var/lib/mesh-agent/identity");
    vm.run("cp", "/var/lib/mesh-agent/identity/config.yaml", "/etc/mesh-agent/config.yaml");
    vm.run("systemctl", "start", "mesh-agent.service");
  };

  test("`rpm -V` finds one changed bit of the program, and `rpm -e` leaves nothing but a changed configuration", () => {
    // The configuration is the administrator's: changed, it is named and is no fault.
    expect(vm.exec("rpm", "-V", "mesh-agent").stdout).toMatch(/^\S+\s+c \/etc\/mesh-agent\/config\.yaml\n$/);
    tamper();
    expect(vm.exec("rpm", "-V", "mesh-agent").stdout).toMatch(/^\S*5\S*\s+\/usr\/bin\/mesh-agent$/m);
    shell("umask 077; echo mj1.unused > /etc/mesh-agent/join");
    // Running when it is removed, as on a host that nobody has told to leave.
    expect(vm.exec("systemctl", "is-active", "mesh-agent.service").stdout.trim()).toBe("active");
    vm.run("rpm", "-e", "mesh-agent");
    expect(shell("ss -ltnH '( sport = 4143 or sport = 4140 or sport = 4191 )'")).toBe("");
    expect(shell("find /etc/mesh-agent")).toBe("/etc/mesh-agent\n/etc/mesh-agent/config.yaml.rpmsave\n");
    shell("rm -r /etc/mesh-agent");
    expect(traces()).toEqual(before);
  }, 120_000);
});

let unsignedRpm = "";
beforeAll(async () => {
  unsignedRpm = await rpm();
});

/** An RPM without files that provides what Debian's packages do. */
function standIn(): string {
  const work = join(scratch, "stand-in");
  mkdirSync(work);
  const own = /^(?:rpmlib\(|config\(|\/bin\/sh$)/;
  const needs = execFileSync("rpm", ["-qp", "--requires", unsignedRpm], { encoding: "utf8" })
    .trim()
    .split("\n")
    .filter((line) => !own.test(line))
    .map((line) => line.replace(/ >= (\d+)$/, " = $1"));
  const provides = [...new Set([...needs, "/bin/sh"])].map((line) => `Provides: ${line}\n`).join("");
  writeFileSync(
    join(work, "stand-in.spec"),
    `Name: stand-in\nVersion: 1\nRelease: 1\nSummary: stands in\nLicense: none\nBuildArch: noarch\n${provides}\n%description\nnone\n%files\n`,
  );
  const macros = { _topdir: work, _tmppath: work, _rpmdir: work, _rpmfilename: "stand-in.rpm" };
  execFileSync(
    "rpmbuild",
    [
      "-bb",
      "--quiet",
      ...Object.entries(macros).flatMap(([name, value]) => ["--define", `${name} ${value}`]),
      join(work, "stand-in.spec"),
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  return join(work, "stand-in.rpm");
}
