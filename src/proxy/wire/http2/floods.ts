import type { Millis } from "../../core/clock.ts";
import { connectionError, ErrorCode } from "./errors.ts";
import type { Http2Config, Http2Limits } from "./options.ts";

const SETTINGS_PERIOD_MS = 1_000;

/**
 * Counts what a peer makes us do for nothing, against {@link Http2Limits}. Each counter begins anew with its period;
 * `now` is moved once per chunk.
 *
 * All methods throw ENHANCE_YOUR_CALM for the connection beyond their limit.
 */
export class FloodGuard {
  readonly #limits: Http2Limits;
  readonly #trusted: boolean;
  #now: Millis = 0;
  #periodStart: Millis = 0;
  #opened = 0;
  #resetsAtOnce = 0;
  #answers = 0;
  #resets = 0;
  #earlyResets = 0;
  #pings = 0;
  #idleFrames = 0;
  #emptyData = 0;
  #settings = 0;
  #settingsStart: Millis = Number.NEGATIVE_INFINITY;

  constructor(config: Http2Config) {
    this.#limits = config.limits;
    this.#trusted = config.trusted;
  }

  /** A read begins. */
  tick(now: Millis): void {
    this.#now = now;
    this.#resetsAtOnce = 0;
    if (now - this.#periodStart < this.#limits.periodMs) return;
    this.#periodStart = now;
    this.#opened = 0;
    this.#resets = 0;
    this.#earlyResets = 0;
    this.#pings = 0;
    this.#idleFrames = 0;
  }

  /** Something moved: HEADERS, or DATA with data, in either direction. */
  progress(): void {
    this.#pings = 0;
    this.#idleFrames = 0;
    this.#emptyData = 0;
  }

  opened(): void {
    this.#opened++;
  }

  /** @param early - Before our response began. */
  reset(early: boolean): void {
    this.#resets++;
    if (early) {
      this.#earlyResets++;
      this.#resetsAtOnce++;
    }
    if (this.#trusted) return;
    if (this.#earlyResets > this.#limits.earlyResets) throw calm("streams reset before their response");
    if (this.#resets > this.#limits.resets) throw calm("streams reset");
  }

  /** Whether a trusted peer's new streams should be refused: too many reset at once, or nine in ten of very many. */
  get isRefusing(): boolean {
    if (!this.#trusted) return false;
    if (this.#resetsAtOnce >= this.#limits.meshResetsAtOnce) return true;
    return this.#resets > this.#limits.meshResets && this.#resets * 10 >= this.#opened * 9;
  }

  /** A frame was written that flow control does not bound: an answer to the peer's frames, or a head. */
  answered(): void {
    this.#answers++;
  }

  /** The peer has taken what we wrote, but for what a slow reader may leave. */
  answersTaken(): void {
    this.#answers = 0;
  }

  /** CVE-2019-9512, CVE-2019-9515 and their family: a peer that asks and never reads. */
  checkAnswers(): void {
    if (this.#answers > this.#limits.unreadAnswers) throw calm("answers that are not read");
  }

  emptyData(): void {
    if (++this.#emptyData > this.#limits.emptyData) throw calm("empty DATA frames");
  }

  ping(): void {
    if (++this.#pings > this.#limits.pings) throw calm("PING frames");
  }

  idleFrame(): void {
    if (++this.#idleFrames > this.#limits.idleFrames) throw calm("frames that move nothing");
  }

  settings(bytes: number, entryBytes: number): void {
    if (bytes > this.#limits.settingsEntries * entryBytes) throw calm("entries in SETTINGS");
    if (this.#now - this.#settingsStart >= SETTINGS_PERIOD_MS) {
      this.#settingsStart = this.#now;
      this.#settings = 0;
    }
    if (++this.#settings > this.#limits.settingsPerSecond) throw calm("SETTINGS frames");
  }

  /** A header block has `frames` frames and `bytes` bytes so far. */
  headerBlock(frames: number, bytes: number): void {
    if (frames > this.#limits.headerFrames) throw calm("frames in a header block");
    if (bytes > this.#limits.headerBlockBytes) throw calm("bytes in a header block");
  }
}

function calm(what: string): Error {
  return connectionError(ErrorCode.enhanceYourCalm, "RFC 9113 §10.5", `too many ${what}`);
}
