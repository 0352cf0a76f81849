import { pino } from "pino";
import type { LogFields, Logger } from "../proxy/core/log.ts";
import { isJournal, type Journal, openJournal, type Priority } from "./journal.ts";

export type LogLevel = "error" | "warn" | "info" | "debug";

/** A logger whose level can be changed while it runs. */
export interface AgentLogger extends Logger {
  level: LogLevel;
  /** The same log with fields on every line. */
  child(fields: LogFields): Logger;
}

// Peers choose paths, header values and names: nothing of theirs may move the cursor or begin a line of its own.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

function cleaned(fields: LogFields | undefined): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields ?? {}))
    if (value !== undefined) out[key] = typeof value === "string" ? printable(value) : value;
  return out;
}

/** Replaces control characters and line separators by their escapes. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** The structured log: entries of the journal with their fields where systemd runs us, else JSON lines on standard error. */
export function createLogger(level: LogLevel, environment: NodeJS.ProcessEnv = process.env): AgentLogger {
  const journal = isJournal(environment) ? openJournal() : undefined;
  return journal === undefined ? lineLogger(level) : journalLogger(level, journal);
}

const PRIORITIES: Readonly<Record<LogLevel, Priority>> = { error: 3, warn: 4, info: 6, debug: 7 };

/** A log whose lines are entries of the journal: `journalctl -p err` and `-o json` see levels and fields. */
export function journalLogger(initial: LogLevel, journal: Journal): AgentLogger {
  let current = initial;
  const wrap = (always: Record<string, unknown>): Logger => {
    const at = (level: LogLevel) => (message: string, fields?: LogFields) => {
      if (PRIORITIES[level] > PRIORITIES[current]) return;
      journal.entry(PRIORITIES[level], printable(message), { ...always, ...cleaned(fields) });
    };
    return { error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
  };
  return {
    ...wrap({}),
    get level() {
      return current;
    },
    set level(value: LogLevel) {
      current = value;
    },
    child: (fields) => wrap(cleaned(fields)),
  };
}

function lineLogger(level: LogLevel): AgentLogger {
  const log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    // Never blocks the proxy: a slow journal loses lines rather than requests.
    pino.destination({ dest: 2, sync: false }),
  );
  const wrap = (target: typeof log): Logger => ({
    error: (message, fields) => target.error(cleaned(fields), printable(message)),
    warn: (message, fields) => target.warn(cleaned(fields), printable(message)),
    info: (message, fields) => target.info(cleaned(fields), printable(message)),
    debug: (message, fields) => {
      if (target.isLevelEnabled("debug")) target.debug(cleaned(fields), printable(message));
    },
  });
  return {
    ...wrap(log),
    get level() {
      return log.level as LogLevel;
    },
    set level(value: LogLevel) {
      log.level = value;
    },
    child: (fields) => wrap(log.child(cleaned(fields)) as typeof log),
  };
}
