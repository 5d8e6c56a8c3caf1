import { destination, type Logger, pino } from 'pino';

export interface ProcessLogOptions {
  level: string;
  /** File descriptor. */
  fd: number;
  /** What whoever reads the log may be behind; more is left out. */
  maxBytes: number;
}

/** A line in the log is a system call and the waking of a thread: written singly, a tenth of what a small answer costs. */
const BATCH = { minLength: 8_192, periodicFlush: 100 };

/**
 * The log of a process, written in batches at most 100 ms later, and whenever it ends by itself. When nobody takes the
 * lines it leaves some out, and says how many as soon as somebody does.
 */
export function processLog({ level, fd, maxBytes }: ProcessLogOptions): Logger {
  const sink = destination({ dest: fd, sync: false, maxLength: maxBytes, ...BATCH });
  const log = pino({ level, base: { process: 'api-server' } }, sink);
  let lines = 0;
  sink.on('drop', () => {
    lines += 1;
  });
  sink.on('drain', () => {
    if (lines === 0) return;
    log.warn({ lines }, 'nobody took the log, so lines were left out');
    lines = 0;
  });
  return log;
}
