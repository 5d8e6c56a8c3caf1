/** Writes one structured line. `message` is constant; what varies goes into `fields`. */
export type LogLine = (fields: Record<string, unknown>, message: string) => void;

/** The logger as an argument; a pino logger (or child) is one. Errors go under the key `err`. */
export interface Log {
  debug: LogLine;
  info: LogLine;
  warn: LogLine;
  error: LogLine;
}

const discard: LogLine = () => undefined;

/** For callers that have nowhere to log to, such as one-shot commands that print their own errors. */
export const silentLog: Log = { debug: discard, info: discard, warn: discard, error: discard };
