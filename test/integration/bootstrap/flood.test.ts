/** Ten thousand attempts a second from one source, and what everybody else notices of them. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { enrollerName } from "../../../src/bootstrap/control/index.ts";
import { EnrollerSite, MESH } from "../../support/enroller-site.ts";

const FLOOD = fileURLToPath(new URL("../../support/enroll-flood.ts", import.meta.url));
const SECONDS = process.env["SOAK"] === "1" ? 30 : 5;

let site: EnrollerSite | undefined;
afterEach(() => site?.stop());

it("hosts from elsewhere join, and those that are attached stay Ready; memory is bounded", {
  timeout: (SECONDS + 40) * 1000,
}, async () => {
  site = await EnrollerSite.start();
  const { configuration } = await site.host("vm-0");
  const { name } = configuration.workload;
  const text = await site.invite({ uses: 1000 });
  site.kube.writes.length = 0;
  const before = process.memoryUsage().rss;
  const orders = {
    port: site.port,
    source: "127.0.0.2",
    perSecond: 10_000,
    seconds: SECONDS,
    serverName: enrollerName(MESH),
  };
  let flooding = true;
  const flood = new Promise<string>((resolve, reject) => {
    execFile(process.execPath, [FLOOD, JSON.stringify(orders)], (error, stdout) => {
      flooding = false;
      if (error === null) resolve(stdout);
      else reject(error);
    });
  });
  const tookMs: number[] = [];
  for (let i = 1; flooding; i++) {
    const began = performance.now();
    await site.enrol(text, `vm-${i}`);
    tookMs.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const said = JSON.parse(await flood) as Record<"attempts" | "perSecond" | "answered" | "turnedAway", number>;
  const grownMb = (process.memoryUsage().rss - before) / 1e6;
  const slowest = Math.max(...tookMs);
  console.log(
    `flood: ${said.attempts} attempts at ${said.perSecond}/s, ${said.answered} answered, ${said.turnedAway} turned away; meanwhile ${tookMs.length} hosts joined, slowest ${Math.round(slowest)} ms; memory ${Math.round(grownMb)} MB more`,
  );
  expect(said.perSecond).toBeGreaterThan(1000);
  // What is answered is what the buckets hold; the rest costs an accept.
  expect(said.answered).toBeLessThan(said.attempts / 4);
  expect(tookMs.length).toBeGreaterThan(3);
  expect(slowest).toBeLessThan(5_000);
  expect(grownMb).toBeLessThan(200);
  expect(await site.readiness(name)).toBe("True Attached");
  expect(site.kube.writes.filter((write) => write.includes(`status shop/${name}`))).toEqual([]);
  expect(site.audit.filter(({ audit }) => audit === "shunned")).toMatchObject([{ address: "127.0.0.2" }]);
  // Lines per source and code are counted out, whatever the flood.
  expect(site.refused.length).toBeLessThan(60);
});
