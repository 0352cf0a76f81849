import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NAMES } from "../scripts/node-base.ts";
import { ENROLLER_PORT } from "../src/bootstrap/enroller/invite.ts";
import { type BasePackage, basePackages, layOutBase } from "./image-base.ts";
import { notices } from "./notices.ts";
import { DOC, gzip, type PackageFile, type PackageInput, packageFile, writeTree } from "./payload.ts";
import { type Release, ROOT, SUMMARY } from "./release.ts";
import { sbom } from "./sbom.ts";

/** As in the Deployment of `cluster install`, and what distroless images call nonroot. */
const USER = 65_532;

/** Which bytes, for whoever refers to them: https://github.com/opencontainers/image-spec/blob/main/descriptor.md */
interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly architecture: string; readonly os: "linux"; readonly variant?: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

const MEDIA = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar+gzip",
} as const;

/**
 * Writes the container image for all architectures: an OCI layout in a tar archive, as `skopeo copy oci-archive:…`,
 * `ctr images import`, `podman load` and `docker load` read it. Debian's libraries, the program, a user without rights;
 * no shell, no package manager. Made from files alone: no engine, no registry.
 *
 * @returns The archive's path.
 * @see https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
export function buildImage(inputs: readonly PackageInput[]): string {
  const [{ release, directory }] = inputs as [PackageInput];
  const work = mkdtempSync(join(tmpdir(), "mesh-agent-image-"));
  try {
    const layout = join(work, "layout");
    const blobs = join(layout, "blobs/sha256");
    mkdirSync(blobs, { recursive: true });
    const put = (mediaType: string, content: Buffer | object): Descriptor => {
      const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      writeFileSync(join(blobs, sha256), bytes);
      return { mediaType, digest: `sha256:${sha256}`, size: bytes.length };
    };
    const annotations = annotationsOf(release);
    const manifests = inputs.map((input) => ({
      ...put(MEDIA.manifest, manifest(input, work, put)),
      platform: {
        architecture: NAMES[input.architecture].deb,
        os: "linux" as const,
        ...(input.architecture === "arm64" && { variant: "v8" }),
      },
    }));
    const index = put(MEDIA.index, { schemaVersion: 2, mediaType: MEDIA.index, manifests, annotations });
    const named = {
      ...index,
      annotations: {
        // Two tools, two habits: the tag alone, and the whole name.
        "org.opencontainers.image.ref.name": release.version,
        "io.containerd.image.name": `docker.io/library/mesh-agent:${release.version}`,
      },
    };
    const top = { schemaVersion: 2, mediaType: MEDIA.index, manifests: [named] };
    writeFileSync(join(layout, "index.json"), JSON.stringify(top));
    writeFileSync(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    const out = join(directory, `mesh-agent-${release.version}.oci.tar`);
    writeFileSync(`${out}.new`, archive(layout, release.seconds, ["--mode=u=rwX,go=rX"]));
    renameSync(`${out}.new`, out);
    return out;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The image of one architecture: libraries that change seldom below, the program above. */
function manifest(
  input: PackageInput,
  work: string,
  put: (mediaType: string, content: Buffer | object) => Descriptor,
): object {
  const { release, architecture } = input;
  const base = basePackages(architecture);
  const layers = [
    { tar: baseLayer(join(work, `base-${architecture}`), base, release), by: "Debian's C and C++ libraries" },
    { tar: programLayer(join(work, `program-${architecture}`), base, input), by: "mesh-agent" },
  ];
  const created = new Date(release.seconds * 1_000).toISOString().replace(".000Z", "Z");
  const config = put(MEDIA.config, {
    created,
    author: "mesh-agent",
    architecture: NAMES[architecture].deb,
    os: "linux",
    ...(architecture === "arm64" && { variant: "v8" }),
    config: {
      User: `${USER}:${USER}`,
      ExposedPorts: { [`${ENROLLER_PORT}/tcp`]: {} },
      Env: ["PATH=/usr/bin", "HOME=/tmp"],
      Entrypoint: ["/usr/bin/mesh-agent"],
      Cmd: ["--help"],
      WorkingDir: "/",
      Labels: annotationsOf(release),
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ tar }) => `sha256:${sha256(tar)}`) },
    history: layers.map(({ by }) => ({ created, created_by: by })),
  });
  return {
    schemaVersion: 2,
    mediaType: MEDIA.manifest,
    config,
    layers: layers.map(({ tar }) => put(MEDIA.layer, gzip(tar, input.compression))),
    annotations: annotationsOf(release),
  };
}

function annotationsOf({ version, seconds }: Release): Readonly<Record<string, string>> {
  const name = (key: string) => `org.opencontainers.image.${key}`;
  return {
    [name("title")]: "mesh-agent",
    [name("description")]: SUMMARY,
    [name("version")]: version,
    [name("licenses")]: "Apache-2.0",
    [name("created")]: new Date(seconds * 1_000).toISOString().replace(".000Z", "Z"),
  };
}

function baseLayer(tree: string, base: readonly BasePackage[], { seconds }: Release): Buffer {
  mkdirSync(tree);
  layOutBase(tree, base);
  const nobody = `nonroot:x:${USER}:`;
  writeTree(
    tree,
    [
      packageFile("etc/passwd", `root:x:0:0:root:/:/sbin/nologin\n${nobody}${USER}:nonroot:/tmp:/sbin/nologin\n`),
      packageFile("etc/group", `root:x:0:\n${nobody}\n`),
      packageFile("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ],
    seconds,
  );
  for (const name of readdirSync(tree, { recursive: true, withFileTypes: true }))
    if (name.isDirectory()) chmodSync(join(name.parentPath, name.name), 0o755);
  chmodSync(join(tree, "tmp"), 0o1777);
  return archive(tree, seconds);
}

function programLayer(tree: string, base: readonly BasePackage[], input: PackageInput): Buffer {
  const { binary, architecture, release, packages } = input;
  mkdirSync(tree);
  const files: readonly PackageFile[] = [
    { ...packageFile("usr/bin/mesh-agent", readFileSync(binary)), mode: 0o755 },
    packageFile(`${DOC}/LICENSE`, readFileSync(join(ROOT, "LICENSE"))),
    packageFile(`${DOC}/third-party-notices.gz`, gzip(notices(packages))),
  ];
  const name = `mesh-agent_${release.version}_${NAMES[architecture].deb}.oci`;
  const bill = { name, path: `${DOC}/sbom.cdx.json` };
  const content = sbom(bill, release, packages, files, base);
  writeTree(tree, [...files, packageFile(bill.path, content)], release.seconds);
  return archive(tree, release.seconds);
}

/** A folder as tar: sorted, of one time, owned by root, whoever builds it where. */
function archive(tree: string, seconds: number, more: readonly string[] = []): Buffer {
  return execFileSync(
    "tar",
    [
      "--create",
      "--format=ustar",
      "--sort=name",
      `--mtime=@${seconds}`,
      "--owner=0",
      "--group=0",
      "--numeric-owner",
      "--hard-dereference",
      ...more,
      `--directory=${tree}`,
      ".",
    ],
    { maxBuffer: 2 ** 31, env: { PATH: process.env["PATH"], LC_ALL: "C" } },
  );
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
