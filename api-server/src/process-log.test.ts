import { execFileSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { processLog } from './process-log.ts';

let folder: string;
let log: Logger;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'process-log-'));
});

afterEach(() => {
  // With its file descriptor.
  (log as unknown as Record<symbol, { destroy(): void }>)[pino.symbols.streamSym]!.destroy();
  rmSync(folder, { recursive: true });
});

it('lines come in batches, soon and in order', async () => {
  const file = join(folder, 'log');
  const fd = openSync(file, 'a');
  log = processLog({ level: 'info', fd, maxBytes: 1_000_000 });
  const lines = Array.from({ length: 500 }, (_, at) => at);
  for (const at of lines) log.info({ at }, 'access');
  const read = () => readFileSync(file, 'utf8').split('\n').slice(0, -1);
  await vi.waitFor(() => expect(read().map((line) => JSON.parse(line).at)).toEqual(lines));
});

it('when nobody reads, what is over the bound is left out and counted', async () => {
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const fd = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
  log = processLog({ level: 'info', fd, maxBytes: 100_000 });
  const written = 5_000;
  for (let at = 0; at < written; at += 1) log.info({ at }, 'access');
  const chunk = Buffer.alloc(65_536);
  let text = '';
  const heard = () =>
    text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  await vi.waitFor(
    () => {
      text += chunk.toString('utf8', 0, takeFrom(fd, chunk));
      expect(heard().at(-1)).toMatchObject({ level: 40 });
    },
    { timeout: 10_000, interval: 10 },
  );
  const lines = heard();
  const { lines: left } = lines.at(-1)!;
  expect(left).toBeGreaterThan(0);
  expect(lines.length - 1 + left).toBe(written);
});

/** Bytes read; none while the pipe is empty. */
function takeFrom(pipe: number, chunk: Buffer): number {
  try {
    return readSync(pipe, chunk);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}
