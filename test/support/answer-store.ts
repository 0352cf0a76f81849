import type { AnswerStore, AnswerWriter } from "../../src/proxy/discovery/index.ts";

/** Stored answers in memory. */
export class MemoryStore implements AnswerStore {
  readonly files = new Map<string, string>();
  writes = 0;

  load(key: string): string | undefined {
    return this.files.get(key);
  }

  save(key: string): AnswerWriter {
    let value = "";
    return {
      append(text) {
        value += text;
      },
      finish: () => {
        this.writes++;
        this.files.set(key, value);
      },
      abandon() {},
    };
  }

  remove(key: string): void {
    this.files.delete(key);
  }

  keys(): Iterable<string> {
    return this.files.keys();
  }
}
