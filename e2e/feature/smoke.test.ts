import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

function smoke(flags: string[], env: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const options = { cwd: root, env: { ...process.env, ...env }, timeout: 280_000 };
    const child = spawn(process.execPath, ['e2e/smoke/main.ts', ...flags], options);
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => (stdout += chunk));
    child.stderr.on('data', (chunk) => (stderr += chunk));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

// Timing is the smoke's own business (`npm run smoke`); here only what must hold on the slowest machine.
test('through a death, a drain, a pin, a join and an operator crash, exactly what must move moves', async () => {
  const { kind } = inject('controlPlane');
  const flags = ['--json', '--control-plane', kind, '--lease-seconds', '4', '--idle-seconds', '10'];
  const report = JSON.parse((await smoke(flags)).stdout);
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

test('what cannot be begun is a report as well; a wrong flag is one line with the usage', async () => {
  const begun = await smoke(['--json', '--control-plane', 'real'], { KUBEBUILDER_ASSETS: '/nowhere' });
  expect([begun.code, JSON.parse(begun.stdout)]).toEqual([
    1,
    { ok: false, problems: [expect.stringContaining('KUBEBUILDER_ASSETS is set to /nowhere')], slow: [] },
  ]);
  for (const flags of [
    ['--idle', '5'],
    ['--lease-seconds', 'ten'],
  ]) {
    const { code, stdout, stderr } = await smoke(flags);
    expect([code, stdout, stderr]).toEqual([
      2,
      '',
      expect.stringMatching(/^[^\n]+; usage: npm run smoke .*\n$/),
    ]);
  }
});
