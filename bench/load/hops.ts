import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import type { Credentials } from "../../src/lab/pki.ts";
import type { HopOptions } from "./hop.ts";
import { freePort, startService } from "./processes.ts";

/**
 * `ours-policy` is `ours` with routes and authorizations on the inbound hop. `haproxy` runs with its defaults; `haproxy-reuse` with `http-reuse always`, which lets requests of different clients
 * share a connection to the next hop from the first request on, as our hops and Linkerd's do.
 */
export type Implementation = "ours" | "ours-policy" | "haproxy" | "haproxy-reuse";

/** What passes through a pair: HTTP/1 that becomes HTTP/2 in between, HTTP/2 in clear text at both ends, or bytes. */
export type Traffic = "http" | "http2" | "opaque";

/** Two hops: plaintext in, mutual TLS 1.3 in between, plaintext out. */
export interface Pair {
  readonly implementation: Implementation;
  /** Where the client connects. */
  readonly frontPort: number;
  /** Where the inbound hop terminates TLS. */
  readonly tlsPort: number;
  readonly outboundPid: number;
  readonly inboundPid: number;
}

/** What both hops, and the handshake client, prove themselves with. */
export interface Material {
  readonly folder: string;
  readonly identity: string;
  readonly keyFile: string;
  readonly certificateFile: string;
  /** Key and certificate in one file, as HAProxy wants them. */
  readonly bundleFile: string;
  readonly anchorsFile: string;
}

// X25519 on both sides: HAProxy 2.6 has no X25519MLKEM768, and Node would prefer it.
export const TLS_GROUPS = "X25519";

export function writeMaterial(folder: string, identity: string, leaf: Credentials, anchorPem: string): Material {
  const put = (name: string, text: string): string => {
    const file = join(folder, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  };
  return {
    folder,
    identity,
    keyFile: put("key.pem", leaf.keyPem),
    certificateFile: put("certificate.pem", leaf.certificatePem),
    bundleFile: put("bundle.pem", `${leaf.certificatePem}\n${leaf.keyPem}`),
    anchorsFile: put("anchors.pem", anchorPem),
  };
}

/** Bundles a hop and its worker as the product is bundled: reading TypeScript at run time costs memory and time. */
export async function bundleHop(folder: string): Promise<void> {
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  await build({
    entryPoints: {
      hop: join(import.meta.dirname, "hop.ts"),
      worker: join(import.meta.dirname, "../../src/agent/worker.ts"),
    },
    outdir: folder,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node26",
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    logLevel: "error",
  });
}

export async function startPair(
  implementation: Implementation,
  traffic: Traffic,
  appPort: number,
  material: Material,
): Promise<Pair> {
  const [frontPort, tlsPort] = [await freePort(), await freePort()];
  const start = implementation === "ours" || implementation === "ours-policy" ? startOurs : startHaproxy;
  const hop = { implementation, traffic, peerPort: tlsPort, appPort, material };
  const inboundPid = await start({ ...hop, role: "inbound", listen: tlsPort });
  const outboundPid = await start({ ...hop, role: "outbound", listen: frontPort });
  return { implementation, frontPort, tlsPort, outboundPid, inboundPid };
}

interface Hop {
  readonly implementation: Implementation;
  readonly role: "outbound" | "inbound";
  readonly traffic: Traffic;
  readonly listen: number;
  readonly peerPort: number;
  readonly appPort: number;
  readonly material: Material;
}

async function startOurs({ implementation, role, traffic, listen, peerPort, appPort, material }: Hop): Promise<number> {
  const { keyFile, certificateFile, anchorsFile, identity } = material;
  const options: HopOptions = {
    role,
    listen,
    peerPort,
    appPort,
    keyFile,
    certificateFile,
    anchorsFile,
    identity,
    opaque: traffic === "opaque",
    policy: implementation === "ours-policy",
    tlsGroups: TLS_GROUPS,
  };
  return (await startService([process.execPath, join(material.folder, "hop.js"), JSON.stringify(options)], listen)).pid;
}

async function startHaproxy({
  implementation,
  role,
  traffic,
  listen,
  peerPort,
  appPort,
  material,
}: Hop): Promise<number> {
  const { bundleFile, anchorsFile, identity, folder } = material;
  const alpn = traffic === "opaque" ? "" : "alpn h2";
  const clear = traffic === "http2" ? "proto h2" : "";
  const lines =
    role === "outbound"
      ? [
          `  bind 127.0.0.1:${listen} ${clear}`,
          "  default_backend next",
          "backend next",
          `  server s1 127.0.0.1:${peerPort} ssl crt ${bundleFile} ca-file ${anchorsFile} verify required verifyhost ${identity} sni str(${identity}) ${alpn}`,
        ]
      : [
          `  bind 127.0.0.1:${listen} ssl crt ${bundleFile} ca-file ${anchorsFile} verify required ${alpn}`,
          "  default_backend next",
          "backend next",
          `  server s1 127.0.0.1:${appPort} ${clear}`,
        ];
  return startHaproxyWith(`${implementation}-${role}-${traffic}`, folder, listen, [
    "defaults",
    `  mode ${traffic === "opaque" ? "tcp" : "http"}`,
    ...(implementation === "haproxy-reuse" ? ["  http-reuse always"] : []),
    ...TIMEOUTS,
    "frontend front",
    ...lines,
  ]);
}

/** The application behind the HTTP pairs: a fixed page, cheap enough not to be the bottleneck. */
export async function startPage(folder: string, version: "1" | "2" = "1"): Promise<number> {
  const port = await freePort();
  await startHaproxyWith(`page${version}`, folder, port, [
    "defaults",
    "  mode http",
    ...TIMEOUTS,
    "frontend front",
    `  bind 127.0.0.1:${port} ${version === "2" ? "proto h2" : ""}`,
    `  http-request return status 200 content-type text/plain string "${"0123456789".repeat(5)}"`,
  ]);
  return port;
}

const TIMEOUTS = ["  timeout connect 5s", "  timeout client 60s", "  timeout server 60s"];

async function startHaproxyWith(name: string, folder: string, port: number, body: readonly string[]): Promise<number> {
  const file = join(folder, `${name}.cfg`);
  const head = [
    "global",
    "  nbthread 1",
    "  maxconn 4000",
    "  ssl-default-bind-options ssl-min-ver TLSv1.3",
    "  ssl-default-server-options ssl-min-ver TLSv1.3",
    `  ssl-default-bind-curves ${TLS_GROUPS}`,
  ];
  writeFileSync(file, `${[...head, ...body].join("\n")}\n`);
  return (await startService(["haproxy", "-db", "-f", file], port)).pid;
}
