import { readdirSync, readFileSync } from "node:fs";
import type { Counter, Gauge, MetricsRegistry } from "../../proxy/core/metrics.ts";

// USER_HZ, the unit of CPU times in /proc, is 100 on every architecture that Node runs on.
const TICKS_PER_SECOND = 100;

/** What is read of a process, so that tests need not be one. */
export interface ProcessFiles {
  /** A file under /proc/self; throws if it cannot be read. */
  read(name: string): string;
  /** Entries of a folder under /proc/self. */
  count(name: string): number;
}

const SELF: ProcessFiles = {
  read: (name) => readFileSync(`/proc/self/${name}`, "latin1"),
  count: (name) => readdirSync(`/proc/self/${name}`).length,
};

/**
 * The `process_*` families. `viz check --proxy` and every Grafana template variable hang on
 * `process_start_time_seconds`, so it is there from the first page on.
 */
export class ProcessMetrics {
  readonly #files: ProcessFiles;
  readonly #wallMs: () => number;
  readonly #startedAtMs: number;
  readonly #gauges: Readonly<Record<"virtual" | "resident" | "fds" | "maxFds" | "threads" | "clock", Gauge>>;
  readonly #cpu: Total;
  readonly #uptime: Total;

  /**
   * @param startedAtMs - When the process started, Unix milliseconds.
   * @param wallMs - The wall clock, Unix milliseconds.
   */
  constructor(registry: MetricsRegistry, startedAtMs: number, wallMs: () => number, files: ProcessFiles = SELF) {
    this.#files = files;
    this.#wallMs = wallMs;
    this.#startedAtMs = startedAtMs;
    const gauge = (name: string): Gauge => registry.gauge(name, {});
    gauge("process_start_time_seconds").set(Math.floor(startedAtMs / 1000));
    this.#gauges = {
      virtual: gauge("process_virtual_memory_bytes"),
      resident: gauge("process_resident_memory_bytes"),
      fds: gauge("process_open_fds"),
      maxFds: gauge("process_max_fds"),
      threads: gauge("process_threads"),
      clock: gauge("process_clock_time_seconds"),
    };
    this.#cpu = new Total(registry.counter("process_cpu_seconds_total", {}));
    this.#uptime = new Total(registry.counter("process_uptime_seconds_total", {}));
  }

  /** Reads everything anew; to be called before a page is printed. */
  refresh(): void {
    const now = this.#wallMs();
    this.#gauges.clock.set(Math.floor(now / 1000));
    this.#uptime.set(Math.max(0, now - this.#startedAtMs) / 1000);
    // The command's name may hold spaces and brackets: fields are counted from the last one. utime and stime are the
    // 14th and 15th of proc(5), the 12th and 13th after it.
    const stat = this.#files.read("stat");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    this.#cpu.set((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND);
    this.#gauges.threads.set(Number(fields[17]));
    this.#gauges.virtual.set(Number(fields[20]));
    this.#gauges.resident.set(1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(this.#files.read("status"))?.[1] ?? 0));
    this.#gauges.fds.set(this.#files.count("fd"));
    this.#gauges.maxFds.set(descriptorLimit(this.#files.read("limits")));
  }
}

/** A counter whose total is known from elsewhere. */
class Total {
  readonly #counter: Counter;
  #seen = 0;

  constructor(counter: Counter) {
    this.#counter = counter;
  }

  set(total: number): void {
    if (total <= this.#seen) return;
    this.#counter.add(total - this.#seen);
    this.#seen = total;
  }
}

/** How many descriptors the process may have open. @param limits - The text of `/proc/self/limits`. */
export function descriptorLimit(limits: string = readFileSync("/proc/self/limits", "utf8")): number {
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 0);
}
