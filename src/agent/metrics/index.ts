/**
 * The metrics page: which families there are (`families.ts`), how a thread counts (`registry.ts`: handles that write
 * into shared memory), how the main thread adds up what all threads count and keeps what a dead one left (`store.ts`),
 * and how it is printed (`text.ts`: linkerd2-proxy's two encoders). May import `proxy/core`. Start with `families.ts`
 * for what is counted, with `store.ts` for how it gets to the page.
 */
export { FAMILIES, type Family } from "./families.ts";
export { descriptorLimit, type ProcessFiles, ProcessMetrics } from "./process.ts";
export { MAX_SERIES_PER_FAMILY, SlotRegistry } from "./registry.ts";
export { DEFAULT_RETAIN_MS, MetricsStore, type MetricsWriter, type SeriesView } from "./store.ts";
