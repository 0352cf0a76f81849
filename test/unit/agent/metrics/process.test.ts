import { expect, it } from "vitest";
import { MetricsStore, ProcessMetrics } from "../../../../src/agent/metrics/index.ts";

const files: Record<string, string> = {
  stat: `42 (a ) b) S 1 42 42 0 -1 4194560 9 8 7 6 250 150 3 4 20 0 11 0 12345 1300000000 9000 184467`,
  status: "Name:\tnode\nVmRSS:\t   61440 kB\nThreads:\t11\n",
  limits:
    "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 4096                 files\n",
};

it("reads what the kernel says of the process", () => {
  const store = new MetricsStore(() => 0);
  let wall = 1_700_000_090_500;
  const read = (name: string): string => files[name] as string;
  const metrics = new ProcessMetrics(store.registry, 1_700_000_000_000, () => wall, { read, count: () => 23 });
  metrics.refresh();
  const page = store.format();
  for (const line of [
    "process_start_time_seconds 1700000000.0",
    "process_uptime_seconds_total 90.5",
    "process_cpu_seconds_total 4.0",
    "process_clock_time_seconds 1700000090",
    "process_virtual_memory_bytes 1300000000",
    "process_resident_memory_bytes 62914560",
    "process_open_fds 23",
    "process_max_fds 1024",
    "process_threads 11",
  ]) {
    expect(page).toContain(`\n${line}\n`);
  }
  files["stat"] = files["stat"]?.replace(" 250 150 ", " 260 165 ") as string;
  wall += 1000;
  metrics.refresh();
  expect(store.format()).toContain("\nprocess_cpu_seconds_total 4.25\n");
});

it("works on this very process", () => {
  const store = new MetricsStore(() => 0);
  new ProcessMetrics(store.registry, Date.now(), Date.now).refresh();
  expect(store.format()).toMatch(/\nprocess_resident_memory_bytes [1-9]\d{6,}\n/);
});
