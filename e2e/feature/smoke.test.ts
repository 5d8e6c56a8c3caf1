import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

function smoke(kind: string): Promise<{ stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const args = [
      'e2e/smoke/main.ts',
      '--json',
      '--control-plane',
      kind,
      '--lease-seconds',
      '4',
      '--idle-seconds',
      '10',
    ];
    const child = spawn(process.execPath, args, { cwd: root, timeout: 280_000 });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => (stdout += chunk));
    child.stderr.on('data', (chunk) => (stderr += chunk));
    child.on('error', reject);
    child.on('close', () => resolve({ stdout, stderr }));
  });
}

// Timing is the smoke's own business (`npm run smoke`); here only what must hold on the slowest machine.
test('through a death, a drain, a pin, a join and an operator crash, exactly what must move moves', async () => {
  const { kind } = inject('controlPlane');
  const { stdout, stderr } = await smoke(kind);
  const report = JSON.parse(stdout.trim().split('\n').at(-1) || `{"stderr": ${JSON.stringify(stderr)}}`);
  expect(report).toMatchObject({
    problems: [],
    controlPlane: { kind },
    shards: 64,
    movesOnLeave: report.movesLowerBound,
    movesOnJoin: report.joinLowerBound,
    idleWritesPerMinute: 0,
  });
  expect(report.movesOnLeave).toBeGreaterThan(0);
  expect(report.movesOnJoin).toBeGreaterThan(0);
  expect(report.statusWritesPerPlannedMove).toBeLessThanOrEqual(3);
}, 300_000);
