import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = join(import.meta.dirname, "../..");

interface Cruise {
  readonly modules: readonly { readonly source: string }[];
  readonly summary: {
    readonly violations: readonly { readonly from: string; readonly rule: { readonly name: string } }[];
  };
}

/** Runs the check as `npm run check:rings` does, on the `src` of any directory. */
async function cruise(directory: string): Promise<Cruise> {
  const tool = join(root, "node_modules/.bin/depcruise");
  const config = join(root, ".dependency-cruiser.cjs");
  const { stdout } = await promisify(execFile)(tool, ["--config", config, "--output-type", "json", "src"], {
    cwd: directory,
    maxBuffer: 256 * 1024 * 1024,
  });
  return JSON.parse(stdout) as Cruise;
}

/** Every way a file can know another one. A parser that misses one of them leaves a hole in each wall. */
const IMPORT_FORMS: Readonly<Record<string, (path: string) => string>> = {
  value: (path) => `import { x } from "${path}";\nexport const y = x;`,
  "import type": (path) => `import type { X } from "${path}";\nexport type Y = X;`,
  "inline type": (path) => `import { type X } from "${path}";\nexport type Y = X;`,
  "export from": (path) => `export { x } from "${path}";`,
  "export type from": (path) => `export type { X } from "${path}";`,
  "typeof import()": (path) => `export type Y = typeof import("${path}");`,
  "import()": (path) => `export const y = () => import("${path}");`,
  "side effect": (path) => `import "${path}";`,
};

const value = IMPORT_FORMS["value"] as (path: string) => string;

/** One violation per rule: the importing file, what it imports, the rule that must say no. */
const VIOLATIONS: readonly (readonly [from: string, to: string, rule: string])[] = [
  ["proxy/core/a.ts", "../wire/http1/b.ts", "ring:proxy/core"],
  ["proxy/wire/http1/a.ts", "../../policy/b.ts", "ring:proxy/wire"],
  ["proxy/policy/a.ts", "../balance/b.ts", "ring:proxy/policy"],
  ["proxy/balance/a.ts", "../stack/b.ts", "ring:proxy/balance"],
  ["proto/a.ts", "../proxy/wire/http1/b.ts", "ring:proto"],
  ["proxy/stack/a.ts", "../transport/b.ts", "ring:proxy/stack"],
  ["proxy/transport/a.ts", "../discovery/b.ts", "ring:proxy/transport"],
  ["proxy/discovery/a.ts", "../transport/b.ts", "ring:proxy/discovery"],
  ["proxy/inbound/a.ts", "../outbound/b.ts", "ring:proxy/inbound"],
  ["proxy/outbound/a.ts", "../../bootstrap/host/b.ts", "ring:proxy/outbound"],
  ["bootstrap/host/a.ts", "../../agent/b.ts", "ring:bootstrap"],
  ["agent/a.ts", "../lab/b.ts", "ring:agent"],
  ["bootstrap/identity/a.ts", "../../proxy/discovery/b.ts", "bootstrap-meets-the-data-plane-in-agent"],
  ["bootstrap/enroller/a.ts", "../identity/b.ts", "bootstrap-inner-ring"],
  ["bootstrap/control/a.ts", "../host/b.ts", "bootstrap-inner-ring"],
  ["proxy/wire/http2/a.ts", "../http1/b.ts", "one-machine-one-protocol"],
  ["proxy/outbound/c.ts", "../../proto/b.ts", "protobuf-behind-one-door"],
  ["proxy/policy/c.ts", "node:fs", "pure-rings-only-think"],
  ["proxy/balance/c.ts", "yaml", "pure-rings-only-think"],
  ["proto/c.ts", "node:fs", "proto-needs-its-runtime-only"],
  ["agent/c.ts", "node:ffi", "libc-in-one-file"],
  ["proxy/transport/c.ts", "node:child_process", "children-have-a-home"],
  ["agent/d.ts", "@kubernetes/client-node", "kubernetes-client-in-the-cluster-bundle"],
  ["lab/c.ts", "./nowhere.ts", "resolvable"],
  ["lab/d.ts", "./e.ts", "no-cycles"],
];

/** What the drawing allows, so that the walls have doors. */
const ALLOWED: readonly (readonly [from: string, to: string])[] = [
  ["proxy/stack/ok.ts", "../policy/b.ts"],
  ["proxy/inbound/ok.ts", "../transport/b.ts"],
  ["proxy/discovery/ok.ts", "../../proto/b.ts"],
  ["bootstrap/host/ok.ts", "../control/b.ts"],
  ["bootstrap/identity/ok.ts", "../../proxy/transport/b.ts"],
  ["agent/ok.ts", "../proxy/outbound/b.ts"],
  ["lab/ok.ts", "../agent/b.ts"],
  ["proxy/core/ok.ts", "./b.ts"],
];

describe("the import check", () => {
  let directory: string;
  const found = new Set<string>();

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "rings-"));
    await writeFile(join(directory, "package.json"), '{"type":"module"}');
    const put = async (path: string, text: string): Promise<void> => {
      await mkdir(dirname(join(directory, "src", path)), { recursive: true });
      await writeFile(join(directory, "src", path), text);
    };
    const innocent = "export const x = 1;\nexport type X = number;\n";
    for (const [from, to] of [...VIOLATIONS, ...ALLOWED]) {
      await put(from, value(to));
      if (to.startsWith(".") && !to.includes("nowhere")) await put(join(dirname(from), to), innocent);
    }
    await put("lab/e.ts", value("./d.ts"));
    for (const [form, write] of Object.entries(IMPORT_FORMS)) {
      await put(`proxy/core/form ${form}.ts`, write("../wire/http1/b.ts"));
    }
    const { summary } = await cruise(directory);
    for (const { from, rule } of summary.violations) found.add(`${from} ${rule.name}`);
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  it.each(VIOLATIONS)("stops %s → %s (%s)", (from, _to, rule) => {
    expect(found).toContain(`src/${from} ${rule}`);
  });

  it.each(Object.keys(IMPORT_FORMS))("sees an import written as %s", (form) => {
    expect(found).toContain(`src/proxy/core/form ${form}.ts ring:proxy/core`);
  });

  it.each(ALLOWED)("lets %s → %s pass", (from) => {
    expect([...found].filter((violation) => violation.startsWith(`src/${from} `))).toEqual([]);
  });

  it("has a seeded violation for every rule", async () => {
    const { default: config } = (await import(join(root, ".dependency-cruiser.cjs"))) as {
      default: { forbidden: readonly { name: string; comment: string }[] };
    };
    const seeded = new Set(VIOLATIONS.map(([, , rule]) => rule));
    // Nothing is above the lab, so its rule cannot be broken.
    expect(config.forbidden.map((rule) => rule.name).filter((name) => !seeded.has(name))).toEqual(["ring:lab"]);
    for (const rule of config.forbidden) expect(rule.comment).not.toBe("");
  });

  it("reads every file of src", { timeout: 60_000 }, async () => {
    const { modules } = await cruise(root);
    const read = new Set(modules.map((module) => module.source));
    const files = (await readdir(join(root, "src"), { recursive: true }))
      .filter((path) => path.endsWith(".ts"))
      .map((path) => `src/${path}`);
    expect(files.length).toBeGreaterThan(0);
    expect(files.filter((path) => !read.has(path))).toEqual([]);
  });
});
