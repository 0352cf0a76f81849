import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LabStore, TYPES } from "../../../../src/lab/api/index.ts";
import { serveWatch } from "../../../../src/lab/api/watch.ts";

describe("a watch", () => {
  const toFake = ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] as const;
  beforeEach(() => void vi.useFakeTimers({ toFake: [...toFake] }));
  afterEach(() => void vi.useRealTimers());

  it("says nothing more once its time is over, also where a bookmark is due at that moment", async () => {
    const response = new ServerResponse(new IncomingMessage(new Socket()));
    const failures: Error[] = [];
    response.on("error", (error) => failures.push(error));
    serveWatch(
      new LabStore({ serviceCidr: "10.200.0.0/16" }),
      response,
      {
        type: TYPES.namespaces,
        namespace: undefined,
        selector: undefined,
        resourceVersion: undefined,
        bookmarks: true,
        sendInitialEvents: false,
        accept: { table: undefined, metadataOnly: false },
        timeoutMs: 240_000,
      },
      () => 0,
    );
    vi.advanceTimersByTime(239_000);
    expect(response.writableEnded).toBe(false);
    vi.advanceTimersByTime(3_600_000);
    expect(response.writableEnded).toBe(true);
    await new Promise(setImmediate);
    expect(failures).toEqual([]);
  });
});
