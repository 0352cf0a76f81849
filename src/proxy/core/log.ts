/** Fields beside the message: plain values only, never a secret. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** A structured log, handed to whoever may have something to say. */
export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
}
