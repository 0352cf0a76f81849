import type { Millis } from "../../proxy/core/clock.ts";
import type { MetricsAnnouncement, MetricsEviction } from "../../proxy/core/messages.ts";
import type { Labels, MetricsRegistry } from "../../proxy/core/metrics.ts";
import { FAMILIES, type Family, familyNamed } from "./families.ts";
import { MAX_SERIES_PER_FAMILY, SlotRegistry, slotsOf } from "./registry.ts";
import { formatFamily, formatLabels, type Sample } from "./text.ts";

/** `LINKERD2_PROXY_METRICS_RETAIN_IDLE`: how long a series stays after its last change. */
export const DEFAULT_RETAIN_MS = 10 * 60_000;

/** One writer's slots of a series. */
interface Source {
  readonly id: number;
  readonly writer: Writer;
  readonly series: Series;
  readonly memory: Float64Array;
  readonly slot: number;
  held: boolean;
}

/** A series of the page: what living writers have, on top of what dead ones left behind. */
interface Series {
  readonly family: Family;
  readonly labels: Labels;
  readonly text: string;
  readonly base: Float64Array;
  readonly sources: Set<Source>;
  /** Sum of all slots when last looked at, and since when it has been that. */
  seen: number;
  changedAt: Millis;
  /** Writers have been asked to forget it; it is not printed meanwhile, so that nothing seems to fall. */
  evicting: boolean;
}

/** One series as other parts of the agent read it: `status`, `top`, the web page. */
export interface SeriesView {
  readonly family: string;
  readonly labels: Labels;
  /** One value; for a histogram one count per bucket (not added up), then +Inf, then the sum. */
  readonly values: Float64Array;
}

/** What the store knows of one writer. */
export interface MetricsWriter {
  /** Messages of the writer's registry, in order. */
  receive(message: MetricsAnnouncement): void;
  /** The writer is gone: its counters stay on the page, its gauges do not. */
  end(): void;
}

/**
 * The reading side, on the main thread: knows every writer's pages, adds up what they count and prints the page.
 * Counters never fall: what a dead worker counted is folded into a base.
 */
export class MetricsStore {
  /** By family, then by label text; families in the order of the page. */
  readonly #families = new Map<string, Map<string, Series>>(FAMILIES.map((family) => [family.name, new Map()]));
  readonly #retainMs: Millis;
  readonly #now: () => Millis;
  readonly #limit: number;
  /** The main thread's own registry: the agent's own families, and the control plane's. */
  readonly registry: MetricsRegistry;

  /**
   * @param now - Monotonic milliseconds.
   * @param retainMs - How long an idle series stays.
   * @param limit - Label sets per family over all writers.
   */
  constructor(now: () => Millis, retainMs: Millis = DEFAULT_RETAIN_MS, limit = MAX_SERIES_PER_FAMILY) {
    this.#now = now;
    this.#retainMs = retainMs;
    this.#limit = limit;
    const registry: SlotRegistry = new SlotRegistry((message) => writer.receive(message), limit);
    const writer = this.addWriter((eviction) => registry.evict(eviction));
    this.registry = registry;
  }

  /** @param post - Takes evictions to the writer's {@link SlotRegistry.evict}. */
  addWriter(post: (eviction: MetricsEviction) => void): MetricsWriter {
    return new Writer(this, post);
  }

  /** The page, without the trailing `# EOF`-style extensions of OpenMetrics: plain text format 0.0.4. */
  format(): string {
    let page = "";
    for (const family of FAMILIES) {
      const samples: Sample[] = [];
      for (const series of this.#ofFamily(family.name).values()) {
        if (!series.evicting) samples.push({ labels: series.text, values: total(series) });
      }
      page += formatFamily(family, samples);
    }
    return `${page}# EOF\n`;
  }

  /** Everything that is on the page, as numbers. */
  *read(family: string): Iterable<SeriesView> {
    for (const series of this.#ofFamily(family).values()) {
      if (!series.evicting) yield { family, labels: series.labels, values: total(series) };
    }
  }

  /**
   * Drops what nobody holds and what has not changed for the retention time. To be called after a scrape, so that an
   * idle series is printed once more, and now and then when nobody scrapes.
   */
  sweep(): void {
    const now = this.#now();
    for (const family of FAMILIES) {
      if (family.retain === "forever") continue;
      for (const series of this.#ofFamily(family.name).values()) this.#judge(series, now);
    }
  }

  #judge(series: Series, now: Millis): void {
    const seen = total(series).reduce((sum, value) => sum + value, 0);
    if (seen !== series.seen) {
      series.seen = seen;
      series.changedAt = now;
      return;
    }
    if (series.evicting || now - series.changedAt < this.#retainMs) return;
    for (const source of series.sources) if (source.held) return;
    series.evicting = true;
    for (const source of series.sources) source.writer.evict(source);
    this.forgetIfGone(series);
  }

  /** @internal Where a writer's series goes; undefined when the family is full. */
  place(family: Family, labels: Labels): Series | undefined {
    const ofFamily = this.#ofFamily(family.name);
    const text = formatLabels(labels);
    const known = ofFamily.get(text);
    if (known !== undefined) {
      known.changedAt = this.#now();
      return known;
    }
    if (ofFamily.size >= this.#limit) {
      this.registry.counter("mesh_agent_metrics_overflow_total", { family: family.name }).add(1);
      return undefined;
    }
    const series: Series = {
      family,
      labels,
      text,
      base: new Float64Array(slotsOf(family)),
      sources: new Set(),
      seen: 0,
      changedAt: this.#now(),
      evicting: false,
    };
    ofFamily.set(text, series);
    return series;
  }

  /** @internal Ends an eviction once no writer has the series any more. */
  forgetIfGone(series: Series): void {
    if (series.evicting && series.sources.size === 0) this.#ofFamily(series.family.name).delete(series.text);
  }

  #ofFamily(name: string): Map<string, Series> {
    return this.#families.get(familyNamed(name).name) as Map<string, Series>;
  }
}

class Writer implements MetricsWriter {
  readonly #store: MetricsStore;
  readonly #post: (eviction: MetricsEviction) => void;
  readonly #pages: Float64Array[] = [];
  readonly #sources = new Map<number, Source>();

  constructor(store: MetricsStore, post: (eviction: MetricsEviction) => void) {
    this.#store = store;
    this.#post = post;
  }

  receive(message: MetricsAnnouncement): void {
    switch (message.type) {
      case "metrics.page":
        this.#pages[message.page] = new Float64Array(message.memory);
        return;
      case "metrics.series": {
        const series = this.#store.place(familyNamed(message.family), message.labels);
        const memory = this.#pages[message.page];
        if (series === undefined || memory === undefined) return;
        const source: Source = { id: message.id, writer: this, series, memory, slot: message.slot, held: true };
        // Somebody counts it again: what was about to be forgotten stays.
        series.evicting = false;
        series.sources.add(source);
        this.#sources.set(message.id, source);
        return;
      }
      case "metrics.held": {
        const source = this.#sources.get(message.id);
        if (source !== undefined) source.held = message.held;
        return;
      }
      case "metrics.evicted": {
        const source = this.#sources.get(message.id);
        if (source === undefined) return;
        if (message.values === undefined) source.series.evicting = false;
        // Should another writer keep the series alive, this part of it must not be missing.
        else this.#leave(source, message.values);
        this.#store.forgetIfGone(source.series);
        return;
      }
      default:
        message satisfies never;
    }
  }

  end(): void {
    for (const source of this.#sources.values()) {
      const { memory, slot, series } = source;
      this.#leave(source, memory.subarray(slot, slot + series.base.length));
      this.#store.forgetIfGone(series);
    }
  }

  evict({ id }: Source): void {
    this.#post({ type: "metrics.evict", id });
  }

  /** The writer no longer has the series: what it counted stays, what it measured does not. */
  #leave(source: Source, values: ArrayLike<number>): void {
    const { id, series } = source;
    if (series.family.type !== "gauge") {
      for (let i = 0; i < series.base.length; i++) (series.base[i] as number) += values[i] as number;
    }
    this.#sources.delete(id);
    series.sources.delete(source);
  }
}

function total({ base, sources }: Series): Float64Array {
  const values = base.slice();
  for (const { memory, slot } of sources) {
    for (let i = 0; i < values.length; i++) (values[i] as number) += memory[slot + i] as number;
  }
  return values;
}
