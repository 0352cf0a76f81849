import { pino } from "pino";
import type { LogFields, Logger } from "../proxy/core/log.ts";

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

/** The structured log: JSON lines on standard error, which systemd takes into the journal. */
export function createLogger(level: LogLevel): AgentLogger {
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
