import type { MetricsAnnouncement, MetricsEviction } from "../../proxy/core/messages.ts";
import type { Counter, Gauge, Histogram, Labels, MetricsRegistry } from "../../proxy/core/metrics.ts";
import { type Family, familyNamed } from "./families.ts";
import { formatLabels } from "./text.ts";

// 8,192 slots: about 290 histograms of latency, or some thousand counters, before the next page.
const PAGE_SLOTS = 8192;

/** linkerd2-proxy has no bound; a stranger who can choose a label value would fill the memory. */
export const MAX_SERIES_PER_FAMILY = 10_000;

const OVERFLOW = "mesh_agent_metrics_overflow_total";

/** A counter or gauge in one slot of shared memory. One thread writes it, the main thread reads it. */
class Slot implements Counter, Gauge {
  readonly #memory: Float64Array;
  readonly #slot: number;

  constructor(memory: Float64Array, slot: number) {
    this.#memory = memory;
    this.#slot = slot;
  }

  add(amount: number): void {
    (this.#memory[this.#slot] as number) += amount;
  }

  set(value: number): void {
    this.#memory[this.#slot] = value;
  }
}

/** One slot per bucket, one for +Inf, one for the sum. Buckets are counted on their own and added up when printed. */
class SlotHistogram implements Histogram {
  readonly #memory: Float64Array;
  readonly #slot: number;
  readonly #buckets: readonly number[];
  readonly #whole: boolean;

  constructor(memory: Float64Array, slot: number, family: Family) {
    this.#memory = memory;
    this.#slot = slot;
    this.#buckets = family.buckets;
    this.#whole = family.whole;
  }

  observe(value: number): void {
    const observed = this.#whole ? Math.trunc(value) : value;
    const buckets = this.#buckets;
    let bucket = 0;
    while (bucket < buckets.length && observed > (buckets[bucket] as number)) bucket++;
    (this.#memory[this.#slot + bucket] as number) += 1;
    (this.#memory[this.#slot + buckets.length + 1] as number) += observed;
  }
}

type Handle = Slot | SlotHistogram;

interface Series {
  readonly id: number;
  readonly family: Family;
  readonly key: string;
  readonly page: number;
  readonly slot: number;
  handle: WeakRef<Handle>;
}

/**
 * The writing side, one per thread: gives out handles that write into pages of shared memory and announces every new
 * series to the {@link MetricsStore} of the main thread.
 *
 * Who holds a handle needs not give it back: the garbage collector tells when the last one is gone.
 */
export class SlotRegistry implements MetricsRegistry {
  readonly #announce: (message: MetricsAnnouncement) => void;
  readonly #limit: number;
  readonly #pages: Float64Array[] = [];
  /** Where the last page is still untouched. */
  #top = PAGE_SLOTS;
  /** Slots of evicted series by width. */
  readonly #free = new Map<number, { page: number; slot: number }[]>();
  readonly #byFamily = new Map<string, Map<string, Series>>();
  readonly #byId = new Map<number, Series>();
  readonly #dropped = new FinalizationRegistry<number>((id) => this.#onDropped(id));
  #nextId = 0;

  /**
   * @param announce - Takes messages to the main thread, in order.
   * @param limit - Label sets per family.
   */
  constructor(announce: (message: MetricsAnnouncement) => void, limit = MAX_SERIES_PER_FAMILY) {
    this.#announce = announce;
    this.#limit = limit;
  }

  counter(family: string, labels: Labels): Counter {
    return this.#find(family, "counter", labels) as Slot;
  }

  gauge(family: string, labels: Labels): Gauge {
    return this.#find(family, "gauge", labels) as Slot;
  }

  histogram(family: string, labels: Labels, buckets: readonly number[]): Histogram {
    if (buckets.length !== familyNamed(family).buckets.length) throw new Error(`${family} has other buckets`);
    return this.#find(family, "histogram", labels) as SlotHistogram;
  }

  /** The main thread found a series idle: forgets it unless somebody holds it. */
  evict({ id }: MetricsEviction): void {
    const series = this.#byId.get(id);
    if (series === undefined || series.handle.deref() !== undefined) {
      this.#announce({ type: "metrics.evicted", id, values: undefined });
      return;
    }
    const width = slotsOf(series.family);
    const slots = (this.#pages[series.page] as Float64Array).subarray(series.slot, series.slot + width);
    const values = [...slots];
    slots.fill(0);
    this.#byId.delete(id);
    this.#byFamily.get(series.family.name)?.delete(series.key);
    const free = this.#free.get(width);
    if (free === undefined) this.#free.set(width, [series]);
    else free.push(series);
    this.#announce({ type: "metrics.evicted", id, values });
  }

  #find(name: string, type: Family["type"], labels: Labels): Handle {
    const family = familyNamed(name);
    if (family.type !== type) throw new Error(`${name} is a ${family.type}`);
    const key = formatLabels(labels);
    let ofFamily = this.#byFamily.get(name);
    if (ofFamily === undefined) {
      ofFamily = new Map();
      this.#byFamily.set(name, ofFamily);
    }
    const known = ofFamily.get(key);
    if (known !== undefined) return known.handle.deref() ?? this.#takeUp(known);
    if (ofFamily.size >= this.#limit) return this.#refuse(family);

    const { page, slot } = this.#allocate(slotsOf(family));
    const id = this.#nextId++;
    const handle = this.#handle(family, page, slot);
    const series: Series = { id, family, key, page, slot, handle: new WeakRef(handle) };
    ofFamily.set(key, series);
    this.#byId.set(id, series);
    this.#dropped.register(handle, id);
    this.#announce({ type: "metrics.series", id, family: name, labels, page, slot, buckets: family.buckets });
    return handle;
  }

  #handle(family: Family, page: number, slot: number): Handle {
    const memory = this.#pages[page] as Float64Array;
    return family.type === "histogram" ? new SlotHistogram(memory, slot, family) : new Slot(memory, slot);
  }

  /** Somebody wants a series whose last holder is gone. */
  #takeUp(series: Series): Handle {
    const handle = this.#handle(series.family, series.page, series.slot);
    series.handle = new WeakRef(handle);
    this.#dropped.register(handle, series.id);
    this.#announce({ type: "metrics.held", id: series.id, held: true });
    return handle;
  }

  #onDropped(id: number): void {
    const series = this.#byId.get(id);
    // It may have been taken up again before the collector reported the handle before.
    if (series === undefined || series.handle.deref() !== undefined) return;
    this.#announce({ type: "metrics.held", id, held: false });
  }

  /** A family is full: counts into memory that nobody prints. */
  #refuse(family: Family): Handle {
    this.counter(OVERFLOW, { family: family.name }).add(1);
    const memory = new Float64Array(slotsOf(family));
    return family.type === "histogram" ? new SlotHistogram(memory, 0, family) : new Slot(memory, 0);
  }

  #allocate(width: number): { page: number; slot: number } {
    const reused = this.#free.get(width)?.pop();
    if (reused !== undefined) return reused;
    if (this.#top + width > PAGE_SLOTS) {
      // A growable SharedArrayBuffer would be one page forever, but makes every access ten times dearer (36 ns).
      const memory = new SharedArrayBuffer(PAGE_SLOTS * Float64Array.BYTES_PER_ELEMENT);
      this.#announce({ type: "metrics.page", page: this.#pages.length, memory });
      this.#pages.push(new Float64Array(memory));
      this.#top = 0;
    }
    const slot = this.#top;
    this.#top += width;
    return { page: this.#pages.length - 1, slot };
  }
}

/** Slots that a series of the family takes. */
export function slotsOf(family: Family): number {
  return family.type === "histogram" ? family.buckets.length + 2 : 1;
}
