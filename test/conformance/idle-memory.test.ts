import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundleHop, type Material, type Pair, startPage, startPair, writeMaterial } from "../../bench/load/hops.ts";
import { measureIdle } from "../../bench/load/idle.ts";
import { stopServices } from "../../bench/load/processes.ts";
import { createPki } from "../../src/lab/pki.ts";

/*
 * N02 and N03 with fewer connections, against the worker as it is shipped; `BENCH_IDLE=1 make bench` has the figures of
 * the table. Each hop is a process of its own, so that its memory is. What many cost beyond few is compared: the heap's
 * first growth is the process's, and with few connections would be theirs.
 */

const SETTLE_MS = 2_000;

const IDENTITY = "idle.mesh.serviceaccount.identity.linkerd.cluster.local";
const folder = mkdtempSync(join(tmpdir(), "mesh-agent-idle-"));
let material: Material;
let pair: Pair;
let pagePort = 0;
beforeAll(async () => {
  const pki = await createPki();
  material = writeMaterial(folder, IDENTITY, await pki.issuer.issue({ dns: [IDENTITY] }), pki.root.certificatePem);
  await bundleHop(folder);
  pagePort = await startPage(folder);
  pair = await startPair("ours", "http", pagePort, material);
});
afterAll(() => {
  stopServices();
  rmSync(folder, { recursive: true, force: true });
});

test.each([
  ["HTTP/1 in clear text (N02)", 3_000, false, 14],
  // Of 4,000 it is 62 KB; the garbage of so few handshakes is not worth a collection yet.
  ["HTTP/2 of mesh peers (N03)", 800, true, 110],
] as const)("%s: what an idle connection costs", async (_name, count, mesh, mostKb) => {
  const hold = (some: number) => measureIdle(pair, material, pagePort, some, mesh, SETTLE_MS);
  const few = await hold(count / 4);
  const many = await hold(count);
  const kbEach = ((many.heldMb - few.heldMb) * 1024) / (many.held - few.held);
  console.info(`${many.held} connections, ${kbEach.toFixed(1)} KB each beyond ${few.held}`);
  expect(many.held).toBe(count);
  expect(kbEach).toBeLessThan(mostKb);
});
