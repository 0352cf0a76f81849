import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { expect, it } from "vitest";
import { printable } from "../../../src/agent/log.ts";

const LOG = fileURLToPath(new URL("../../../src/agent/log.ts", import.meta.url));
const HOSTILE = 'a\r\n{"level":"error","msg":"forged"}\u001b[2J\u2028\u0000\u009b';

it("leaves no character in a text that could begin a line or move the cursor", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(printable(text)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
    }),
  );
});

it("writes one line for what a peer chose, in messages and in fields", () => {
  const program = `import { createLogger } from ${JSON.stringify(LOG)};
    createLogger("info").info(${JSON.stringify(HOSTILE)}, { path: ${JSON.stringify(HOSTILE)} });`;
  const { stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
    encoding: "utf8",
    env: {},
  });
  const lines = stderr.split("\n");
  expect(lines).toHaveLength(2);
  expect(JSON.parse(lines[0] ?? "")).toMatchObject({
    level: "info",
    msg: printable(HOSTILE),
    path: printable(HOSTILE),
  });
});
