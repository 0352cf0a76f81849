import { type ClientRequest, request } from "node:http";
import type { TapEvent } from "../../proxy/core/messages.ts";
import { until } from "../until.ts";

const WAIT_MS = 3_000;

/** Listens to one agent's tap and remembers what it heard. */
export class Tap {
  readonly #question: ClientRequest;
  #heard: TapEvent[] = [];

  private constructor(question: ClientRequest) {
    this.#question = question;
  }

  /** Rejects if the agent cannot be asked. */
  static open(socketPath: string): Promise<Tap> {
    return new Promise((resolve, reject) => {
      const question = request({ socketPath, path: "/tap" }, (response) => {
        const tap = new Tap(question);
        let rest = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          const lines = (rest + chunk).split("\n");
          rest = lines.pop() ?? "";
          for (const line of lines) if (line !== "") tap.#heard.push(JSON.parse(line) as TapEvent);
        });
        response.on("error", () => {});
        resolve(tap);
      });
      question.on("error", reject);
      question.end();
    });
  }

  /** Runs something that makes one request, and returns what the proxy said about it. */
  async during(act: () => Promise<void>): Promise<TapEvent | undefined> {
    this.#heard = [];
    await act();
    return await until(() => this.#heard.find(({ direction }) => direction === "outbound"), WAIT_MS);
  }

  close(): void {
    this.#question.on("error", () => {});
    this.#question.destroy();
  }
}
