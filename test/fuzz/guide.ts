import { takeCoverage } from "./coverage.ts";

/** Tells which inputs reach code of the decoder that nothing reached before, by V8's precise coverage. */
export class Guide {
  readonly #covers: string;
  readonly #known = new Set<string>();
  /** What the last question found to be new. */
  #pending = new Set<string>();

  /** @param covers - Which scripts count: a part of their URL. */
  constructor(covers: string) {
    this.#covers = covers;
  }

  /** Whether anything that ran since the last question reached something new. */
  reachedNew(): boolean {
    this.#pending = new Set(this.#reached().filter((key) => !this.#known.has(key)));
    for (const key of this.#pending) this.#known.add(key);
    return this.#pending.size > 0;
  }

  /**
   * After {@link reachedNew}: runs the inputs again in halves to find the ones that did it. Of several that go the same
   * new way the first is named.
   */
  whichReached<Input>(tried: readonly Input[], attempt: (input: Input) => void): Input[] {
    if (tried.length === 0 || this.#pending.size === 0) return [];
    for (const input of tried) attempt(input);
    const here = this.#reached().filter((key) => this.#pending.has(key));
    if (here.length === 0) return [];
    if (tried.length === 1) {
      for (const key of here) this.#pending.delete(key);
      return [...tried];
    }
    const middle = tried.length >> 1;
    return [...this.whichReached(tried.slice(0, middle), attempt), ...this.whichReached(tried.slice(middle), attempt)];
  }

  #reached(): string[] {
    const keys: string[] = [];
    for (const script of takeCoverage().result) {
      if (!script.url.includes(this.#covers)) continue;
      for (const { ranges } of script.functions) {
        for (const range of ranges) {
          if (range.count > 0) keys.push(`${script.scriptId}:${range.startOffset}:${range.endOffset}`);
        }
      }
    }
    return keys;
  }
}
