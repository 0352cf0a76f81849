import { closeSync, fstatSync, openSync } from "node:fs";
import fc from "fast-check";
import { expect, it } from "vitest";
import { formatEntry, isJournal, openJournal } from "../../../src/agent/journal.ts";
import { journalLogger, type LogLevel } from "../../../src/agent/log.ts";

it("puts the fields into the message and beside it", () => {
  expect(formatEntry(4, "interception does not work", { family: "v4", why: "no worker", afterMs: 12 }).toString()).toBe(
    [
      "PRIORITY=4",
      "SYSLOG_IDENTIFIER=mesh-agent",
      'MESSAGE=interception does not work family=v4 why="no worker" afterMs=12',
      "MESH_AGENT_FAMILY=v4",
      "MESH_AGENT_WHY=no worker",
      "MESH_AGENT_AFTER_MS=12",
      "",
    ].join("\n"),
  );
});

it("lets no value begin a field of its own, whatever a peer chose", () => {
  const pieces = ["a", "é", "\n", "\r", "\0", "\u001b", "\u2028", "=", '"', " ", "MESSAGE=", "\nPRIORITY=0\n"];
  const text = fc.array(fc.constantFrom(...pieces), { maxLength: 8 }).map((found) => found.join(""));
  fc.assert(
    fc.property(text, fc.dictionary(text, text, { maxKeys: 4 }), (message, fields) => {
      const lines = formatEntry(6, message, fields).toString().split("\n");
      expect(lines).toHaveLength(4 + Object.keys(fields).length);
      for (const line of lines.slice(3, -1)) expect(line).toMatch(/^MESH_AGENT_[A-Z0-9_]*=/);
    }),
    { numRuns: 30 },
  );
});

it.each([
  ["error", 1],
  ["warn", 2],
  ["info", 3],
  ["debug", 4],
] as const)("at level %s writes what is as urgent or more, each with its priority", (level: LogLevel, count) => {
  const said: string[] = [];
  const log = journalLogger("info", {
    entry: (priority, message, fields) => said.push(`${priority} ${message} ${JSON.stringify(fields)}`),
  });
  log.level = level;
  const child = log.child({ worker: 1 });
  child.error("broken", { why: "a\nb" });
  child.warn("odd");
  child.info("so");
  child.debug("and so");
  expect(said).toEqual(
    [
      '3 broken {"worker":1,"why":"a\\\\u000ab"}',
      '4 odd {"worker":1}',
      '6 so {"worker":1}',
      '7 and so {"worker":1}',
    ].slice(0, count),
  );
});

it("takes for the journal only what systemd says is it", () => {
  const fd = openSync("/dev/null", "w");
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    expect(isJournal({ JOURNAL_STREAM: `${dev}:${ino}` }, fd)).toBe(true);
    expect(isJournal({ JOURNAL_STREAM: `${dev}:${ino + 1n}` }, fd)).toBe(false);
    expect(isJournal({}, fd)).toBe(false);
  } finally {
    closeSync(fd);
  }
});

it("is not there where nobody listens", () => {
  expect(openJournal("/nonexistent/socket")).toBeUndefined();
});
