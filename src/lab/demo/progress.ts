import type { Style } from "./style.ts";

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const FRAME_MS = 100;
const REMIND_MS = 5_000;

/** Where progress is shown. */
export interface ProgressOutput {
  write(text: string): unknown;
  /** Whether a line can be written over. */
  readonly isTerminal: boolean;
  readonly style: Style;
}

/** Shows one long step at a time: on a terminal as a turning wheel, elsewhere as a line now and then. */
export class Progress {
  readonly #output: ProgressOutput;
  readonly #now: () => number;
  #step: { text: string; readonly since: number } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #frame = 0;

  constructor(output: ProgressOutput, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#now = now;
  }

  /** Begins a step; the one before it is done. */
  begin(text: string): void {
    this.done();
    this.#step = { text, since: this.#now() };
    if (this.#output.isTerminal) this.#draw();
    this.#timer = setInterval(() => this.#tick(), this.#output.isTerminal ? FRAME_MS : REMIND_MS);
  }

  /** The step succeeded. */
  done(): void {
    this.#end(this.#output.style.good("✓"));
  }

  /** The step did not. */
  failed(): void {
    this.#end(this.#output.style.bad("✗"));
  }

  #end(mark: string): void {
    const step = this.#step;
    if (step === undefined) return;
    clearInterval(this.#timer);
    this.#step = undefined;
    const clear = this.#output.isTerminal ? "\r\x1b[K" : "";
    const took = this.#output.style.dim(`${(this.#elapsed(step.since) / 1000).toFixed(1)} s`);
    this.#output.write(`${clear}  ${mark} ${step.text}  ${took}\n`);
  }

  #tick(): void {
    if (this.#output.isTerminal) this.#draw();
    else if (this.#step !== undefined) {
      this.#output.write(`  … ${this.#step.text}: ${Math.round(this.#elapsed(this.#step.since) / 1000)} s so far\n`);
    }
  }

  #draw(): void {
    const step = this.#step;
    if (step === undefined) return;
    const frame = FRAMES[this.#frame++ % FRAMES.length];
    const seconds = Math.floor(this.#elapsed(step.since) / 1000);
    const took = seconds > 0 ? `  ${this.#output.style.dim(`${seconds} s`)}` : "";
    this.#output.write(`\r\x1b[K  ${this.#output.style.name(frame ?? "")} ${step.text}${took}`);
  }

  #elapsed(since: number): number {
    return this.#now() - since;
  }
}
