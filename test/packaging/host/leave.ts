import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import type { LoadReport } from "../load.ts";
import type { MeshedMachine } from "../meshed-machine.ts";

const OTHER = "other-vm";
// A new endpoint is taken for one of 30 ms, which it forgets over 10 s (as Linkerd's balancer does): until then a faster
// one has every request that finds it idle.
const BOTH_SERVE_MS = 60_000;

/** Leaving while others call: what another host of the group takes over, and what has to finish first. */
export function leaving(machine: () => MeshedMachine): void {
  describe("leaving", () => {
    test("`down` under load loses no request and cuts no stream", async () => {
      const { vm, lab } = machine();
      await machine().join();
      await lab.addVm(OTHER, [
        { kind: "http", port: SAMPLE.port },
        { kind: "grpc", port: SAMPLE.grpcPort },
        { kind: "tcp", port: SAMPLE.tcpPort },
      ]);
      await lab.join(OTHER, await machine().invite());
      const load = await machine().load("pod", { fresh: 50, kept: 50, calls: 20, streams: 10 });
      const served = new Set<string>();
      const until = performance.now() + BOTH_SERVE_MS;
      while (served.size < 2 && performance.now() < until) served.add((await machine().fromPod()).app);
      expect(served).toEqual(new Set([machine().name, OTHER]));
      // One that is under way when the host leaves.
      const url = `http://${SAMPLE.pod}.${SAMPLE.namespace}.svc.cluster.local/delay/4000`;
      const slow = vm.spawn("curl", "-sS", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", url);
      let status = "";
      slow.stdout?.on("data", (chunk: Buffer) => {
        status += chunk.toString();
      });
      const slowEnds = once(slow, "close");
      await vm.until("the slow request is under way", () => established(vm.run("ss", "-Htn", "dport", "=", ":80")) > 0);

      const began = performance.now();
      const leave = vm.spawn("mesh-agent", "down", "-o", "json");
      let said = "";
      leave.stdout?.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      const leaves = once(leave, "close");
      await vm.until("it drains", () => machine().status()?.state === "draining");
      // The streams that it carries keep it; new requests go to the other.
      let inARow = 0;
      for (let i = 0; i < 300 && inARow < 10; i++) {
        inARow = (await machine().fromPod()).app === OTHER ? inARow + 1 : 0;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      expect(inARow).toBe(10);
      const report: LoadReport = await load.end();
      const [code] = await leaves;
      await slowEnds;
      process.stdout.write(
        `down under load took ${(performance.now() - began).toFixed(0)} ms: ${report.sent} requests, ${report.failed} failed ` +
          `${JSON.stringify(report.failures)}, streams ${report.streams.whole} whole, cut ${JSON.stringify(report.streams.cut)}\n`,
      );
      expect(report.failures).toEqual({});
      expect(report.streams).toEqual({ whole: 10, cut: {} });
      expect(status).toBe("200");
      expect(code).toBe(0);
      const { steps } = JSON.parse(said) as { steps: { name: string }[] };
      expect(steps.map(({ name }) => name)).toEqual(["interception", "mesh", "units", "names", "rules"]);
      expect(vm.exec("nft", "list", "table", "inet", "mesh_agent").code).not.toBe(0);
      expect(vm.run("cat", "/etc/resolv.conf")).not.toContain("127.0.0.140");
    }, 240_000);
  });
}

function established(listed: string): number {
  return listed.split("\n").filter((line) => line.startsWith("ESTAB")).length;
}
