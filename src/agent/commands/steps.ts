import { CommandError } from "../exit.ts";
import type { Format } from "./output.ts";

/** One step of a longer command: what was done, or why it was not needed. */
interface Step {
  readonly name: string;
  readonly result: string;
}

/**
 * What a longer command has done so far: a line each as it happens, or all at the end as one JSON object, which says too
 * in which step it failed, with the exit status and the remedy.
 */
export class Steps {
  readonly #output: Format;
  readonly #line: (name: string, result: string) => string;
  readonly #done: Step[] = [];
  #more: object = {};
  #now = "";

  constructor(output: Format, line: (name: string, result: string) => string) {
    this.#output = output;
    this.#line = line;
  }

  /** What comes next; the step in which an error is one. */
  begin(name: string): void {
    this.#now = name;
  }

  /** The result of the step that was begun. */
  say(result: string): void {
    this.#done.push({ name: this.#now, result });
    if (this.#output === "text") process.stdout.write(`${this.#line(this.#now, result)}\n`);
  }

  /** More for the JSON object. */
  add(more: object): void {
    this.#more = { ...this.#more, ...more };
  }

  /** @throws what `act` throws, after saying in which step it was. */
  async run(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (error instanceof CommandError) {
        const { exitCode, message, remedy } = error;
        this.add({ failed: { step: this.#now, status: exitCode, message, remedy } });
        if (this.#output === "text") process.stdout.write(`${this.#line(this.#now, "FAILED")}\n`);
      }
      throw error;
    } finally {
      if (this.#output === "json")
        process.stdout.write(`${JSON.stringify({ steps: this.#done, ...this.#more }, undefined, 2)}\n`);
    }
  }
}
