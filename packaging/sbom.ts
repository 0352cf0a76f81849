import { createHash } from "node:crypto";
import type { BundledPackage } from "../scripts/bundle.ts";
import { nodeVersion } from "../scripts/node-base.ts";
import type { BasePackage } from "./image-base.ts";
import { licenceOf } from "./notices.ts";
import type { Release } from "./release.ts";

/** A file of the package, for the inventory. */
export interface Inventoried {
  readonly path: string;
  readonly content: Buffer;
}

/** What Node links in that has advisories of its own: names as in `process.versions`, vendor and product as NVD's CPEs. */
const INSIDE_NODE: Readonly<Record<string, string | undefined>> = {
  openssl: "openssl:openssl",
  v8: "google:v8",
  uv: "libuv:libuv",
  llhttp: "llhttp:llhttp",
  nghttp2: "nghttp2:nghttp2",
  ares: "c-ares:c-ares",
  zlib: "zlib:zlib",
  brotli: "google:brotli",
  zstd: "facebook:zstandard",
  icu: "icu-project:international_components_for_unicode",
  sqlite: "sqlite:sqlite",
  simdjson: undefined,
  simdutf: undefined,
  ada: undefined,
  undici: "nodejs:undici",
  acorn: undefined,
  uvwasi: undefined,
  libffi: "libffi:libffi",
};

/**
 * The bill of materials of a package: runtime with what it links in, npm packages as bundled, and every other file of the
 * package with its hash. CycloneDX 1.6, JSON.
 *
 * @param bill - Name of the thing described, such as `mesh-agent_0.1.0-1_amd64`, and where in it the bill lies.
 * @param files - All the others. The bill is listed without a hash, which cannot stand in it.
 * @param base - Debian's packages, where they are a part of it.
 * @see https://cyclonedx.org/docs/1.6/json/
 */
export function sbom(
  bill: { readonly name: string; readonly path: string },
  { version, seconds }: Release,
  packages: readonly BundledPackage[],
  files: readonly Inventoried[],
  base: readonly BasePackage[] = [],
): string {
  const program = `mesh-agent@${version}`;
  const runtime = `node@${nodeVersion()}`;
  const linked = Object.entries(INSIDE_NODE).flatMap(([library, cpe]) => {
    const found = process.versions[library];
    if (found === undefined) return [];
    return [
      {
        type: "library",
        "bom-ref": `${runtime}/${library}`,
        name: library,
        version: found,
        ...(cpe !== undefined && { cpe: `cpe:2.3:a:${cpe}:${found.split("-")[0]}:*:*:*:*:*:*:*` }),
      },
    ];
  });
  const bundled = packages.map((entry) => ({
    type: "library",
    "bom-ref": `${entry.folder}@${entry.version}`,
    name: entry.name,
    version: entry.version,
    // The purl type npm wants the scope's @ encoded.
    purl: `pkg:npm/${entry.name.replace("@", "%40")}@${entry.version}`,
    licenses: [{ expression: licenceOf(entry) }],
  }));
  const inventory = files.map(({ path, content }) => ({
    type: "file",
    "bom-ref": `file:/${path}`,
    name: `/${path}`,
    hashes: [{ alg: "SHA-256", content: createHash("sha256").update(content).digest("hex") }],
  }));
  const debian = base.map((entry) => ({
    type: "library",
    "bom-ref": `debian/${entry.name}@${entry.version}`,
    name: entry.name,
    version: entry.version,
    purl: `pkg:deb/debian/${encodeURIComponent(entry.name)}@${encodeURIComponent(entry.version)}?arch=${entry.architecture}`,
    hashes: [{ alg: "SHA-256", content: entry.sha256 }],
  }));
  const document = {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      timestamp: new Date(seconds * 1_000).toISOString().replace(".000Z", "Z"),
      component: {
        type: "application",
        "bom-ref": program,
        name: "mesh-agent",
        version,
        licenses: [{ license: { id: "Apache-2.0" } }],
        properties: [{ name: "mesh-agent:artifact", value: bill.name }],
      },
    },
    components: [
      {
        type: "platform",
        "bom-ref": runtime,
        name: "node",
        version: nodeVersion(),
        purl: `pkg:generic/node@${nodeVersion()}`,
        cpe: `cpe:2.3:a:nodejs:node.js:${nodeVersion()}:*:*:*:*:*:*:*`,
        licenses: [{ license: { id: "MIT" } }],
        components: linked,
      },
      ...bundled,
      ...debian,
      ...inventory,
      { type: "file", "bom-ref": `file:/${bill.path}`, name: `/${bill.path}` },
    ],
    dependencies: [
      { ref: program, dependsOn: [runtime, ...bundled.map((entry) => entry["bom-ref"])] },
      { ref: runtime, dependsOn: [...linked, ...debian].map((entry) => entry["bom-ref"]) },
    ],
  };
  return `${JSON.stringify({ ...document, serialNumber: serial(document) }, undefined, 2)}\n`;
}

/** A UUID made of the content, where others are random: the same package has the same bill. RFC 9562 §5.8. */
function serial(document: unknown): string {
  const bytes = createHash("sha256").update(JSON.stringify(document)).digest().subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString("hex");
  return `urn:uuid:${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
