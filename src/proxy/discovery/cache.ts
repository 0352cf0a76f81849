import type { Clock, Millis } from "../core/clock.ts";
import type { Timers } from "./watch.ts";

/** Where answers survive a restart. Implemented by whoever may write files. Nothing here may throw. */
export interface AnswerStore {
  load(key: string): string | undefined;
  /** Begins to write an answer; until it is finished the one before counts. One at a time. */
  save(key: string): AnswerWriter;
  remove(key: string): void;
  keys(): Iterable<string>;
}

/** Takes an answer in parts: one of thousands of endpoints is megabytes. */
export interface AnswerWriter {
  append(text: string): void;
  finish(): void;
  abandon(): void;
}

/** A store for those who want none. */
export const NO_STORE: AnswerStore = {
  load: () => undefined,
  save: () => ({ append() {}, finish() {}, abandon() {} }),
  remove() {},
  keys: () => [],
};

export interface Stored<T> {
  readonly value: T;
  /** When the control plane last confirmed it, Unix milliseconds. */
  readonly confirmedAtMs: number;
}

const FORMAT = 2;
// Answers in a burst are written once; at a crash the last few seconds are what the control plane says again anyway.
const FLUSH_MS = 5_000;
// How many elements of a long answer are put into words at a time: a millisecond.
const PART = 100;
const STEPS = 4;
// Somebody who scans the cluster's networks must not fill the disk.
const MAX_ANSWERS = 4_096;

/**
 * The last good answer of every watch, with its age. Written lazily; an unchanged answer only when its age on disk would
 * otherwise mislead.
 */
export class AnswerCache {
  readonly #store: AnswerStore;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #maxStaleMs: number;
  readonly #reconfirmMs: number;
  /** Keys on disk, oldest first, with the age that stands there. */
  readonly #saved = new Map<string, number>();
  readonly #dirty = new Map<string, () => unknown>();
  #flushing: (() => void) | undefined;
  /** What is being written at the moment. */
  #writing: Writing | undefined;

  /** @param maxStaleMs - Older answers are forgotten. */
  constructor(store: AnswerStore, clock: Clock, timers: Timers, maxStaleMs: Millis) {
    this.#store = store;
    this.#clock = clock;
    this.#timers = timers;
    this.#maxStaleMs = maxStaleMs;
    this.#reconfirmMs = maxStaleMs / 24;
    for (const key of [...store.keys()]) {
      const entry = this.#read(key);
      if (entry === undefined) store.remove(key);
      else this.#saved.set(key, entry.confirmedAtMs);
    }
  }

  /** @returns undefined: nothing stored, too old, in a format of another version, or not what `is` expects. */
  load<T>(key: string, is: (value: unknown) => value is T): Stored<T> | undefined {
    const entry = this.#read(key);
    if (entry === undefined || !is(entry.value)) return undefined;
    return { value: entry.value, confirmedAtMs: entry.confirmedAtMs };
  }

  /**
   * Keeps an answer.
   * @param value - Called when it is written, which may be later: only the last value counts.
   * @param changed - False: the control plane said the same again.
   */
  save(key: string, value: () => unknown, changed: boolean): void {
    if (!changed && this.#clock.wallMs() - (this.#saved.get(key) ?? Number.NEGATIVE_INFINITY) < this.#reconfirmMs)
      return;
    this.#dirty.set(key, value);
    this.#flushing ??= this.#timers.after(FLUSH_MS, () => this.#writeSome());
  }

  /** Forgets an answer that turned out to be none. */
  remove(key: string): void {
    this.#dirty.delete(key);
    if (this.#writing?.key === key) {
      this.#writing.writer.abandon();
      this.#writing = undefined;
    }
    if (this.#saved.delete(key)) this.#store.remove(key);
  }

  /** Writes what is waiting: at the latest before the process ends. */
  flush(): void {
    this.#flushing?.();
    this.#flushing = undefined;
    while (this.#writePart());
  }

  /** As much as the others in this thread do not notice, and the rest in later turns of the loop. */
  #writeSome(): void {
    let more = true;
    for (let i = 0; i < STEPS && more; i++) more = this.#writePart();
    this.#flushing = more ? this.#timers.after(0, () => this.#writeSome()) : undefined;
  }

  /** @returns false: nothing is waiting any more. */
  #writePart(): boolean {
    this.#writing ??= this.#begin();
    const writing = this.#writing;
    if (writing === undefined) return false;
    const { done, value } = writing.parts.next();
    if (done !== true) {
      writing.writer.append(value);
      return true;
    }
    writing.writer.finish();
    this.#writing = undefined;
    this.#saved.delete(writing.key);
    this.#saved.set(writing.key, writing.confirmedAtMs);
    for (const key of this.#saved.keys()) {
      if (this.#saved.size <= MAX_ANSWERS) break;
      this.remove(key);
    }
    return this.#dirty.size > 0;
  }

  #begin(): Writing | undefined {
    for (const [key, value] of this.#dirty) {
      this.#dirty.delete(key);
      const confirmedAtMs = this.#clock.wallMs();
      return { key, confirmedAtMs, writer: this.#store.save(key), parts: textOf(confirmedAtMs, value()) };
    }
    return undefined;
  }

  #read(key: string): Stored<unknown> | undefined {
    const text = this.#store.load(key);
    if (text === undefined) return undefined;
    try {
      const entry: unknown = JSON.parse(text);
      if (typeof entry !== "object" || entry === null || !("format" in entry) || entry.format !== FORMAT)
        return undefined;
      if (!("value" in entry) || !("confirmedAtMs" in entry) || typeof entry.confirmedAtMs !== "number")
        return undefined;
      // A clock that was set back makes an answer look like one from the future: as good as fresh, but no better.
      if (this.#clock.wallMs() - entry.confirmedAtMs > this.#maxStaleMs) return undefined;
      return { value: entry.value, confirmedAtMs: entry.confirmedAtMs };
    } catch {
      return undefined;
    }
  }
}

interface Writing {
  readonly key: string;
  readonly confirmedAtMs: number;
  readonly writer: AnswerWriter;
  readonly parts: Iterator<string>;
}

/** A stored answer as JSON; a long list in parts. */
function* textOf(confirmedAtMs: number, value: unknown): Generator<string> {
  if (!Array.isArray(value)) return yield JSON.stringify({ format: FORMAT, confirmedAtMs, value });
  yield JSON.stringify({ format: FORMAT, confirmedAtMs, value: [] }).slice(0, -"]}".length);
  for (let i = 0; i < value.length; i += PART)
    yield (i === 0 ? "" : ",") + JSON.stringify(value.slice(i, i + PART)).slice(1, -1);
  yield "]}";
}
