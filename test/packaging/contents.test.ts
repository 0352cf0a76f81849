import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "../../packaging/release.ts";
import { deb, image, input, rpm } from "./built.ts";

const MEGABYTE = 1_000_000;
const scratch = mkdtempSync(join(tmpdir(), "mesh-agent-contents-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Unpacks a package; its files as paths from the root of the host. */
function unpacked(file: string): { tree: string; files: readonly string[] } {
  const tree = mkdtempSync(join(scratch, "tree-"));
  if (file.endsWith(".deb")) execFileSync("dpkg-deb", ["--extract", file, tree]);
  else execFileSync("sh", ["-c", 'rpm2cpio "$1" | (cd "$2" && cpio -idm --quiet)', "sh", file, tree]);
  const files = execFileSync("find", [tree, "-type", "f", "-printf", "/%P\n"], { encoding: "utf8" });
  return { tree, files: files.trim().split("\n").sort() };
}

const text = (path: string) => gunzipSync(readFileSync(path)).toString();

describe.each([
  ["deb", deb],
  ["rpm", rpm],
] as const)("the %s", (format, build) => {
  let file: string;
  let tree: string;
  let files: readonly string[];
  const content = (path: string) => readFileSync(join(tree, path));

  beforeAll(async () => {
    file = await build();
    ({ tree, files } = unpacked(file));
  }, 900_000);

  test("lists every file of it in its bill of materials, with its hash, and what is inside the program", () => {
    const bill = JSON.parse(text(join(tree, "usr/share/doc/mesh-agent/sbom.cdx.json.gz"))) as Bill;
    expect(bill).toMatchObject({ bomFormat: "CycloneDX", specVersion: "1.6" });
    const listed = bill.components.filter(({ type }) => type === "file");
    expect(listed.map(({ name }) => name).sort()).toEqual(files);
    for (const { name, hashes } of listed)
      if (!name.endsWith("/sbom.cdx.json.gz"))
        expect([name, hashes?.[0]?.content]).toEqual([name, createHash("sha256").update(content(name)).digest("hex")]);
    const node = bill.components.find(({ type }) => type === "platform");
    const inside = Object.fromEntries((node?.components ?? []).map(({ name, version }) => [name, version]));
    const { openssl, llhttp, nghttp2, uv } = process.versions;
    expect(inside).toMatchObject({ openssl, llhttp, nghttp2, uv });
    expect(bill.components.some(({ purl }) => purl?.startsWith("pkg:npm/yaml@"))).toBe(true);
  });

  test("ships the licence of everything in it", async () => {
    const notices = text(join(tree, "usr/share/doc/mesh-agent/third-party-notices.gz"));
    const { packages } = await input();
    expect(packages.length).toBeGreaterThan(10);
    for (const { name, version } of packages) expect(notices).toContain(`\n${name} ${version}\n====`);
    for (const author of ["Node.js contributors", "- OpenSSL, located at", "- V8, located at", "- libuv, located at"])
      expect(notices).toContain(author);
    // Nothing that would ask for the source to be handed out with the program.
    expect(notices.slice(0, notices.indexOf("===="))).not.toMatch(/GPL|EUPL|CDDL|SSPL/);
    const own = format === "deb" ? "usr/share/doc/mesh-agent/copyright" : "usr/share/licenses/mesh-agent/LICENSE";
    expect(content(own).toString()).toContain("Apache");
  });

  test("has pages, completions, units and a configuration that can be read", () => {
    for (const page of ["man8/mesh-agent.8", "man5/mesh-agent.yaml.5"]) {
      const { status, stderr } = spawnSync(
        "man",
        ["--warnings", "-l", "-Tutf8", join(tree, `usr/share/man/${page}.gz`)],
        {
          encoding: "utf8",
          env: { ...process.env, MANWIDTH: "100", MANPAGER: "cat", LC_ALL: "C.UTF-8" },
        },
      );
      expect([page, status, stderr]).toEqual([page, 0, ""]);
    }
    const bash = spawnSync("bash", ["-n", join(tree, "usr/share/bash-completion/completions/mesh-agent")]);
    expect(bash.status).toBe(0);
    const units = readdirSync(join(ROOT, "packaging/systemd")).map((unit) => `/usr/lib/systemd/system/${unit}`);
    expect(files.filter((path) => path.startsWith("/usr/lib/systemd/"))).toEqual(units.sort());
    expect(content("usr/lib/sysusers.d/mesh-agent.conf").toString()).toMatch(/^u mesh-agent - /);
    const config = join(tree, "etc/mesh-agent/config.yaml");
    const check = spawnSync(join(tree, "usr/bin/mesh-agent"), ["config", "check", config], { encoding: "utf8" });
    expect([check.status, check.stderr]).toEqual([0, ""]);
  });
});

interface Bill {
  readonly components: readonly {
    readonly type: string;
    readonly name: string;
    readonly version?: string;
    readonly purl?: string;
    readonly hashes?: readonly { readonly content: string }[];
    readonly components?: readonly { readonly name: string; readonly version: string }[];
  }[];
}

test("both formats put the same files on a host, but for where a distribution looks for some", async () => {
  const ours = (format: "deb" | "rpm", files: readonly string[]) => {
    const own: readonly string[] = OWN[format];
    expect(files.filter((path) => own.includes(path))).toEqual([...own].sort());
    return files.filter((path) => !own.includes(path));
  };
  const [debian, red] = [unpacked(await deb()), unpacked(await rpm())];
  expect(ours("rpm", red.files)).toEqual(ours("deb", debian.files));
  for (const path of ours("deb", debian.files)) {
    // Each bill names its own package.
    if (path.endsWith("/sbom.cdx.json.gz")) continue;
    const [a, b] = [debian, red].map(({ tree }) => join(tree, path)) as [string, string];
    expect([path, statSync(b).mode]).toEqual([path, statSync(a).mode]);
    expect([path, readFileSync(a).equals(readFileSync(b))]).toEqual([path, true]);
  }
}, 120_000);

const OWN = {
  deb: [
    "/usr/share/doc/mesh-agent/changelog.Debian.gz",
    "/usr/share/doc/mesh-agent/changelog.gz",
    "/usr/share/doc/mesh-agent/copyright",
    "/usr/share/lintian/overrides/mesh-agent",
    "/usr/share/zsh/vendor-completions/_mesh-agent",
  ],
  rpm: [
    "/usr/share/doc/mesh-agent/CHANGELOG.md",
    "/usr/share/licenses/mesh-agent/LICENSE",
    "/usr/share/zsh/site-functions/_mesh-agent",
  ],
} as const;

describe("the linters of the formats", () => {
  test("lintian: no error, no warning that is not explained in lintian-overrides", async () => {
    const { status, stdout } = spawnSync("lintian", ["--fail-on", "error,warning", "--allow-root", await deb()], {
      encoding: "utf8",
    });
    expect(stdout).toBe("");
    expect(status).toBe(0);
  }, 240_000);

  test("rpmlint: no error, no warning that is not explained in rpmlint.toml", async () => {
    const config = join(ROOT, "packaging/rpm/rpmlint.toml");
    const { status, stdout } = spawnSync("rpmlint", ["--config", config, await rpm()], { encoding: "utf8" });
    expect(stdout).toContain(" 1 packages and 0 specfiles checked; 0 errors, 0 warnings, 0 badness");
    expect(status).toBe(0);
  }, 240_000);
});

test("dependencies are declared: the libraries that the program links, and the programs that it runs", async () => {
  const depends = execFileSync("dpkg-deb", ["--field", await deb(), "Depends"], { encoding: "utf8" });
  for (const name of ["libatomic1", "libstdc++6", "libc6", "nftables", "iproute2", "systemd"])
    expect(depends).toMatch(new RegExp(`(?:^|, )${name.replaceAll("+", "\\+")}(?:,| |$)`, "m"));
  const requires = execFileSync("rpm", ["-qp", "--requires", await rpm()], { encoding: "utf8" });
  for (const name of [
    "libatomic.so.1()(64bit)",
    "libstdc++.so.6()(64bit)",
    "libc.so.6()(64bit)",
    "nftables",
    "iproute",
  ])
    expect(requires.split("\n")).toContain(name);
  expect(requires).toContain("systemd >= 249");
  // What is loaded, and nothing that is not declared.
  const { binary } = await input();
  const needed = execFileSync("objdump", ["-p", binary], { encoding: "utf8" });
  const libraries = [...needed.matchAll(/NEEDED\s+(\S+)/g)].map(([, name]) => name);
  for (const library of libraries) expect(requires).toContain(`${library}()(64bit)`);
}, 120_000);

test("no download is larger than 45 MB", async () => {
  for (const file of [await deb(undefined, "small"), await rpm(undefined, "small")]) {
    process.stdout.write(`${basename(file)}: ${(statSync(file).size / MEGABYTE).toFixed(1)} MB\n`);
    expect(statSync(file).size).toBeLessThanOrEqual(45 * MEGABYTE);
  }
}, 900_000);

test("same input, same bytes: in another place, by another user, with another mask, locale, home and time zone", async () => {
  // Made first: the copy takes the libraries along instead of asking the mirror again.
  await image();
  const { binary, release } = await input();
  const run = (tree: string, command: readonly string[], env: NodeJS.ProcessEnv) => {
    const whole = [...command, process.execPath, join(tree, "test/packaging/reproduce.ts")];
    return (...more: readonly string[]) =>
      JSON.parse(
        execFileSync("env", [...whole, ...more], {
          cwd: tree,
          encoding: "utf8",
          stdio: ["ignore", "pipe", "inherit"],
          env: { PATH: process.env["PATH"], SOURCE_DATE_EPOCH: String(release.seconds), ...env },
        }),
      ) as Record<string, string>;
  };
  const here = run(ROOT, [], { HOME: scratch })(binary);
  rmSync(join(ROOT, "dist/reproduced"), { recursive: true });

  const copy = join(mkdtempSync(join(tmpdir(), "mesh-agent-elsewhere-")), "of another name");
  mkdirSync(copy);
  try {
    for (const name of ["src", "packaging", "scripts", "docs", "test/packaging"])
      cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    for (const name of ["package.json", "package-lock.json", "CHANGELOG.md", "LICENSE", "tsconfig.json"])
      cpSync(join(ROOT, name), join(copy, name));
    for (const name of ["node_modules", ".cache"]) {
      mkdirSync(join(copy, name), { recursive: true });
      const from = name === ".cache" ? `${join(ROOT, name)}/image-base-*` : `${join(ROOT, name)}/.`;
      // Links where the file system has both; nothing in them is written.
      const link = 'cp -al $1 "$2" 2> /dev/null || cp -a $1 "$2"';
      execFileSync("sh", ["-c", link, "sh", from.replaceAll(" ", "?"), join(copy, name)]);
    }
    mkdirSync(join(copy, "dist"));
    const home = join(copy, "home");
    mkdirSync(home);
    for (const folder of [join(copy, ".."), copy, join(copy, "dist"), join(copy, ".cache"), home])
      chownSync(folder, 65_534, 65_534);
    const other = [
      "setpriv",
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      "sh",
      "-c",
      'umask 0027; exec "$@"',
      "sh",
    ];
    const elsewhere = run(copy, other, {
      HOME: home,
      TZ: "Pacific/Kiritimati",
      LC_ALL: "tr_TR.UTF-8",
      LANG: "tr_TR.UTF-8",
    })();
    expect(Object.keys(elsewhere)).toHaveLength(4);
    expect(elsewhere).toEqual(here);
  } finally {
    rmSync(join(copy, ".."), { recursive: true, force: true });
  }
  expect(existsSync(copy)).toBe(false);
}, 900_000);
