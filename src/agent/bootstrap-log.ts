import type { Log } from "../bootstrap/control/index.ts";
import type { AgentLogger } from "./log.ts";

/** Bootstrap speaks pino's way round; the agent's log takes plain fields. */
export function bootstrapLog(log: AgentLogger): Log {
  const at =
    (level: "debug" | "info" | "warn" | "error") => (fields: Readonly<Record<string, unknown>>, message: string) => {
      const plain: Record<string, string | number | boolean> = {};
      for (const [key, value] of Object.entries(fields))
        plain[key] = typeof value === "number" || typeof value === "boolean" ? value : String(value);
      log[level](message, plain);
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}
