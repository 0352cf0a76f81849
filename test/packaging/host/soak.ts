import { describe, expect, test } from "vitest";
import { slope } from "../../support/slope.ts";
import type { MeshedMachine } from "../meshed-machine.ts";

// P15: by hand for as long as somebody has the machine to himself; in every run long enough to see a leak per request.
const SOAK = process.env["SOAK"] === "1";
const MINUTES = SOAK ? Number(process.env["SOAK_MINUTES"] ?? 60) : 0.25;
const WARM_UP = SOAK ? 0.2 : 0.4;
const SAMPLE_MS = SOAK ? 15_000 : 1_000;
const MOST_MB_PER_HOUR = 0.5;

interface Sample {
  readonly atMs: number;
  readonly residentMb: number;
  readonly descriptors: number;
  readonly threads: number;
}

/** Memory, descriptors and threads of an agent that carries everything at once, both ways. */
export function soak(machine: () => MeshedMachine): void {
  describe("soak", () => {
    test("memory, descriptors and threads stay where they were under mixed load", async () => {
      const { vm } = machine();
      await vm.until("ready and intercepted", () => machine().isReady(), 60_000);
      const mix = { fresh: 40, kept: 60, calls: 20, streams: 10, opaque: 10, seconds: MINUTES * 60 + 120 };
      const sample = (atMs: number): Sample => {
        const pid = machine().mainPid();
        const status = vm.run("cat", `/proc/${pid}/status`);
        const number = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]);
        const descriptors = vm.run("sh", "-c", `ls /proc/${pid}/fd | wc -l`);
        return {
          atMs,
          residentMb: number("VmRSS") / 1024,
          descriptors: Number(descriptors),
          threads: number("Threads"),
        };
      };
      const idle = sample(0);
      const loads = [await machine().load("vm", mix), await machine().load("pod", mix)];
      const began = performance.now();
      const samples: Sample[] = [];
      for (let elapsed = 0; elapsed < MINUTES * 60_000; elapsed = performance.now() - began) {
        samples.push(sample(elapsed));
        await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
      }
      const reports = await Promise.all(loads.map((load) => load.end()));
      const warm = samples.slice(Math.floor(samples.length * WARM_UP));
      const [first, last] = [warm[0] as Sample, warm.at(-1) as Sample];
      const hours = ({ atMs }: Sample) => atMs / 3_600_000;
      const growth = slope(warm, hours, ({ residentMb }) => residentMb);
      const fds = slope(warm, hours, ({ descriptors }) => descriptors);
      // Of seconds, a slope says nothing.
      const perHour = SOAK ? `${growth.toFixed(2)} MB/h, descriptors ${fds.toFixed(1)}/h, ` : "";
      process.stdout.write(
        `soak of ${MINUTES} min: ${reports.map(({ sent, failed }) => `${sent} requests, ${failed} failed`).join("; ")}; ` +
          `memory ${idle.residentMb.toFixed(1)} MB idle, ${first.residentMb.toFixed(1)} warm, ${last.residentMb.toFixed(1)} at the end, ` +
          `${perHour}threads ${last.threads}\n`,
      );
      for (const report of reports) {
        expect(report.failures).toEqual({});
        expect(report.streams.cut).toEqual({});
      }
      expect(new Set(warm.map(({ threads }) => threads)).size).toBe(1);
      if (SOAK) expect(growth).toBeLessThan(MOST_MB_PER_HOUR * Math.max(1, 60 / MINUTES));
      // What the load held is given back, but for what is kept ready for the next call.
      await vm.until("its descriptors are back", () => sample(0).descriptors <= idle.descriptors + 24, 120_000);
    }, 5_400_000);
  });
}
