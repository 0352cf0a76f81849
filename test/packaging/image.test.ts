import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { VERSION } from "../../src/agent/version.ts";
import { image } from "./built.ts";
import { standing } from "./standing.ts";

const scratch = mkdtempSync(join(tmpdir(), "mesh-agent-image-test-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly architecture: string; readonly os: string };
}

describe("the container image", () => {
  const layout = join(scratch, "layout");
  const blob = ({ digest }: Descriptor) => readFileSync(join(layout, "blobs", digest.replace(":", "/")));
  const json = <T>(descriptor: Descriptor) => JSON.parse(blob(descriptor).toString()) as T;
  let index: { readonly schemaVersion: number; readonly manifests: readonly Descriptor[] };
  let platforms: readonly (Descriptor & { readonly platform: { readonly architecture: string } })[];

  beforeAll(async () => {
    const archive = await image();
    mkdirSync(layout);
    execFileSync("tar", ["-xf", archive, "-C", layout]);
    index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8"));
    platforms = json<typeof index>(index.manifests[0] as Descriptor).manifests as typeof platforms;
  }, 900_000);

  const manifestOf = (architecture: string) => {
    const platform = platforms.find((entry) => entry.platform.architecture === architecture) as Descriptor;
    return json<{ readonly config: Descriptor; readonly layers: readonly Descriptor[] }>(platform);
  };

  /** The tree that an engine would start a container in. */
  const rootfs = (architecture: string) => {
    const tree = join(scratch, `rootfs-${architecture}`);
    if (existsSync(tree)) return tree;
    mkdirSync(tree);
    for (const layer of manifestOf(architecture).layers)
      execFileSync("tar", ["-xzpf", "-", "-C", tree], { input: blob(layer) });
    return tree;
  };

  test("is a valid layout: version, one index with a platform each, every digest and size true, nothing else in it", () => {
    expect(JSON.parse(readFileSync(join(layout, "oci-layout"), "utf8"))).toEqual({ imageLayoutVersion: "1.0.0" });
    expect(index.schemaVersion).toBe(2);
    expect(index.manifests).toHaveLength(1);
    expect(platforms.map(({ platform }) => platform)).toEqual([
      { architecture: "amd64", os: "linux" },
      { architecture: "arm64", os: "linux", variant: "v8" },
    ]);
    const manifests = platforms.map(({ platform: { architecture } }) => manifestOf(architecture));
    const all = [...index.manifests, ...platforms, ...manifests.flatMap(({ config, layers }) => [config, ...layers])];
    for (const descriptor of all) {
      const bytes = blob(descriptor);
      expect(descriptor.digest).toBe(`sha256:${createHash("sha256").update(bytes).digest("hex")}`);
      expect(descriptor.size).toBe(bytes.length);
      expect(descriptor.mediaType).toMatch(/^application\/vnd\.oci\.image\.(?:index|manifest|config|layer)\.v1\+?/);
    }
    const listed = execFileSync("find", [join(layout, "blobs"), "-type", "f"], { encoding: "utf8" })
      .trim()
      .split("\n");
    expect(listed).toHaveLength(new Set(all.map(({ digest }) => digest)).size);
  });

  test.each(["amd64", "arm64"])("for %s has a configuration that fits its layers, and a user without rights", (of) => {
    const { config, layers } = manifestOf(of);
    const {
      history,
      rootfs: contents,
      ...rest
    } = json<{
      readonly history: readonly object[];
      readonly rootfs: { readonly type: string; readonly diff_ids: readonly string[] };
    }>(config);
    expect(rest).toMatchObject({
      architecture: of,
      os: "linux",
      config: { User: "65532:65532", Entrypoint: ["/usr/bin/mesh-agent"], ExposedPorts: { "4145/tcp": {} } },
    });
    expect(contents.type).toBe("layers");
    expect(contents.diff_ids).toEqual(
      layers.map(
        (layer) =>
          `sha256:${createHash("sha256")
            .update(gunzipSync(blob(layer)))
            .digest("hex")}`,
      ),
    );
    expect(history).toHaveLength(layers.length);
  });

  test("holds libraries, program and papers: no shell, nothing that anybody but root could write, no setuid program", () => {
    const tree = rootfs("amd64");
    const find = (...args: readonly string[]) => execFileSync("find", [tree, ...args], { encoding: "utf8" }).trim();
    expect(find("-type", "f", "-path", "*/bin/*", "-printf", "%P\n")).toBe("usr/bin/mesh-agent");
    expect(find("!", "-type", "l", "-perm", "/022", "-printf", "%P %m\n")).toBe("tmp 1777");
    expect(find("-perm", "/6000")).toBe("");
    expect(find("!", "-user", "0", "-o", "!", "-group", "0")).toBe("");
    expect(statSync(join(tree, "usr/share/doc/libc6/copyright")).size).toBeGreaterThan(1_000);
    const bill = JSON.parse(readFileSync(join(tree, "usr/share/doc/mesh-agent/sbom.cdx.json"), "utf8")) as {
      readonly components: readonly { readonly purl?: string }[];
    };
    expect(bill.components.some(({ purl }) => /^pkg:deb\/debian\/libc6@.*\?arch=amd64$/.test(purl ?? ""))).toBe(true);
  });

  test("runs `--version`, `cluster install` and `enroller` as uid 65532 on a root file system that is only read", () => {
    const tree = rootfs(process.arch === "arm64" ? "arm64" : "amd64");
    const run = (...args: readonly string[]) => runIn(tree, args);
    expect(run("--version")).toMatchObject({ status: 0, stdout: `${VERSION}\n`, stderr: "" });
    const install = run("cluster", "install", "--image", "registry.example/mesh-agent:1");
    expect([install.status, install.stderr]).toEqual([0, ""]);
    expect(install.stdout).toContain("image: registry.example/mesh-agent:1");
    expect(install.stdout).toContain("runAsUser: 65532");
    expect(run("invite", "--help")).toMatchObject({ status: 0 });
    // Outside of a cluster: the command is there, and says what it misses.
    const enroller = run("enroller", "--in-cluster");
    expect(enroller.status).toBe(64);
    expect(enroller.stderr).toMatch(/^mesh-agent: no cluster: this is no pod: .*\n$/);
  }, 60_000);

  describe("arm64, under emulation where this machine is none", () => {
    const program = () => {
      const tree = rootfs("arm64");
      const emulator = process.arch === "arm64" ? [] : ["qemu-aarch64-static", "-L", tree];
      return [...emulator, join(tree, "usr/bin/mesh-agent")] as const;
    };
    const run = (...command: readonly string[]) =>
      execFileSync("env", command, { encoding: "utf8", env: { PATH: process.env["PATH"] }, timeout: 240_000 });

    test("says its version and checks a configuration", () => {
      expect(run(...program(), "--version")).toBe(`${VERSION}\n`);
      expect(run(...program(), "config", "check", "/dev/null")).toContain("no errors");
    }, 480_000);

    test("an agent starts: identity read, worker thread ready, metrics served", async () => {
      const folder = mkdtempSync(join(scratch, "agent-"));
      const [config, socket] = [join(folder, "config.yaml"), join(folder, "control.sock")];
      await standing(folder);
      appendFileSync(config, `state: {directory: ${folder}}\ncontrol: {socket: ${socket}}\n`);
      // On passed-in sockets, as under systemd: the emulator knows no IP_TRANSPARENT to set by itself.
      const script = `config=$1 socket=$2; shift 2
        ip link set lo up
        systemd-socket-activate --fdname=admin:outbound:inbound:control -l 127.0.0.1:4191 -l 127.0.0.1:4140 -l 4143 \
          -l "$socket" "$@" run --config "$config" >&2 &
        for second in $(seq 200); do
          status=$(curl -s -m 60 http://127.0.0.1:4191/status.json)
          case "$status" in *'"state":"ready"'*) break ;; esac
          sleep 1
        done
        echo "$status"
        curl -s -m 60 http://127.0.0.1:4191/metrics
        kill $!; wait`;
      const shell = ["--net", "sh", "-c", script, "sh", config, socket, ...program()];
      const [status = "", ...metrics] = run("unshare", ...shell).split("\n");
      expect(JSON.parse(status)).toMatchObject({
        state: "ready",
        identity: { uri: "spiffe://cluster.local/ns/shop/sa/erp" },
        workers: { ready: 1, count: 1, restarts: 0 },
      });
      expect(metrics.join("\n")).toContain("process_start_time_seconds");
    }, 480_000);
  });
});

/** A container without an engine: its own mounts, processes and network, uid 65532 without rights, everything read-only. */
function runIn(tree: string, args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const script = `set -e
    mount --bind "$1" "$1"
    mkdir -p "$1/proc"
    mount -t proc proc "$1/proc"
    mount -o remount,ro,bind "$1"
    tree=$1
    shift
    exec setpriv --no-new-privs chroot --userspec=65532:65532 "$tree" /usr/bin/mesh-agent "$@"`;
  const { status, stdout, stderr } = spawnSync(
    "unshare",
    ["--mount", "--pid", "--fork", "--net", "sh", "-c", script, "sh", tree, ...args],
    { encoding: "utf8", env: { PATH: process.env["PATH"] }, timeout: 60_000 },
  );
  return { status, stdout, stderr };
}
