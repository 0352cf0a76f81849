/** The page of the program itself, with an identity from files and a control plane that is not there. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { VERSION } from "../../../src/agent/version.ts";
import { Authority } from "../../../src/lab/pki.ts";
import { SERVER_NAME, SERVER_URI } from "../../support/hops.ts";

let folder: string;
let agent: ChildProcess;
let admin: number;
let said = "";

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "page-"));
  const authority = await Authority.root("root.linkerd.cluster.local");
  const leaf = await authority.issue({ dns: [SERVER_NAME], uri: [SERVER_URI] });
  writeFileSync(join(folder, "tls.key"), leaf.keyPem, { mode: 0o600 });
  writeFileSync(join(folder, "tls.crt"), leaf.certificatePem);
  writeFileSync(join(folder, "ca.crt"), authority.certificatePem);
  admin = await freePort();
  const config = {
    identity: { source: "files", directory: folder },
    proxy: { listeners: "self", workers: 1 },
    inbound: { port: await freePort(), ports: [8080] },
    outbound: { port: await freePort() },
    admin: { address: `127.0.0.1:${admin}` },
    control: { socket: join(folder, "control.sock") },
    state: { directory: folder },
    controlPlane: {
      destination: `127.0.0.1:${await freePort()}`,
      policy: `127.0.0.1:${await freePort()}`,
      name: "control.linkerd",
    },
  };
  writeFileSync(join(folder, "config.yaml"), JSON.stringify(config));
  agent = spawn(process.execPath, ["src/agent/main.ts", "run", "--config", join(folder, "config.yaml")], {
    stdio: ["ignore", "pipe", "pipe"],
    // The agent refuses what could change what it trusts.
    env: { PATH: process.env["PATH"] ?? "" },
  });
  for (const stream of [agent.stdout, agent.stderr])
    stream?.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
});

afterAll(async () => {
  if (agent.exitCode === null) {
    agent.kill("SIGKILL");
    await once(agent, "exit");
  }
  rmSync(folder, { recursive: true });
});

async function scrape(has: RegExp, headers: Record<string, string> = {}): Promise<Response> {
  for (const until = performance.now() + 30_000; performance.now() < until; ) {
    if (agent.exitCode !== null) break;
    const response = await fetch(`http://127.0.0.1:${admin}/metrics`, { headers }).catch(() => undefined);
    if (response !== undefined && has.test(await response.clone().text())) return response;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`no page with ${has}\n${said}`);
}

describe("the page", () => {
  test("of an agent that runs", async () => {
    const response = await scrape(/^control_response_total/m, {
      accept: "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    });
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4");
    const page = await response.text();
    expect(page).toContain(
      `proxy_build_info{date="",git_sha="",profile="release",vendor="mesh-agent",version="${VERSION}"} 1\n`,
    );
    const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(page)?.[1]);
    expect(value("process_start_time_seconds")).toBeGreaterThan(Date.now() / 1_000 - 120);
    expect(value("process_resident_memory_bytes")).toBeGreaterThan(20_000_000);
    expect(value("control_identity_cert_expiration_timestamp_seconds")).toBeGreaterThan(Date.now() / 1_000);
    expect(page).toContain('control_identity_cert_refreshes_total{result="ok"} 1\n');
    // Nobody is there: the declared port is asked about all the same.
    expect(page).toMatch(
      /^control_request_total\{addr="127.0.0.1:\d+",tls="true",server_id="control.linkerd"\} [1-9]/m,
    );
    expect(page).toMatch(/^control_response_total\{.*,classification="failure",grpc_status="",error="unclassified"\}/m);
    expect(page.endsWith("# EOF\n")).toBe(true);
    // What Prometheus' parser of the text format takes: names once typed, samples under it.
    for (const line of page.split("\n").filter((each) => each !== "" && !each.startsWith("# ")))
      expect(line).toMatch(/^[a-z_]+(?:\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})? -?[\d.+e]+$/);
  });

  test("is the same whether it is compressed or not", async () => {
    const { request } = await import("node:http");
    const body = await new Promise<Buffer>((resolve, reject) => {
      const ask = request(
        { host: "127.0.0.1", port: admin, path: "/metrics", headers: { "accept-encoding": "gzip" } },
        (response) => {
          expect(response.headers["content-encoding"]).toBe("gzip");
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("end", () => resolve(Buffer.concat(chunks)));
        },
      );
      ask.on("error", reject);
      ask.end();
    });
    const families = (text: string) => [...text.matchAll(/^# TYPE (\S+ \S+)$/gm)].map((match) => match[1]);
    const plain = await (await scrape(/proxy_build_info/, { "accept-encoding": "identity" })).text();
    expect(families(gunzipSync(body).toString())).toEqual(families(plain));
  });
});
