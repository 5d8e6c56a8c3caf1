import { planeChoice, startControlPlane } from '../control-plane/start.ts';
import { flagsOf, positive, stopSignal } from '../start/command.ts';
import { Product } from '../start/product.ts';
import { runSmoke, type SmokeReport } from './smoke.ts';

const USAGE =
  'npm run smoke -- [--json] [--control-plane auto|real|embedded] [--lease-seconds 10] [--idle-seconds 60]';
const values = flagsOf(USAGE, {
  'control-plane': { type: 'string', default: 'auto' },
  json: { type: 'boolean', default: false },
  'lease-seconds': { type: 'string', default: '10' },
  'idle-seconds': { type: 'string', default: '60' },
});
const kind = planeChoice(values['control-plane']);
const leaseSeconds = positive(USAGE, '--lease-seconds', values['lease-seconds']);
const idleSeconds = positive(USAGE, '--idle-seconds', values['idle-seconds']);

const began = performance.now();
const say = (line: string) => {
  process.stderr.write(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${line}\n`);
};
const stopped = stopSignal();
const signal = AbortSignal.any([stopped, AbortSignal.timeout(10 * 60_000)]);

async function smoke(): Promise<SmokeReport> {
  const controlPlane = await startControlPlane({ kind, env: process.env, log: say, signal });
  try {
    const product = await Product.start({ controlPlane, say, signal });
    try {
      return await runSmoke({ product, leaseSeconds, idleSeconds, say, signal });
    } finally {
      await product.stop();
    }
  } finally {
    await controlPlane.stop();
  }
}

/** Whatever ended it before the story began: nothing was measured. */
function failed(error: unknown): SmokeReport {
  return { ok: false, problems: [error instanceof Error ? error.message : String(error)], slow: [] };
}

const report = await smoke().catch(failed);
if (stopped.aborted) say('stopped');
else {
  for (const problem of report.problems) say(`PROBLEM: ${problem}`);
  for (const missed of report.slow) say(`TOO SLOW: ${missed}`);
  say(report.ok ? 'everything held' : 'not everything held');
  process.stdout.write(`${JSON.stringify(report, null, values.json ? undefined : 2)}\n`);
  process.exitCode = report.ok ? 0 : 1;
}
