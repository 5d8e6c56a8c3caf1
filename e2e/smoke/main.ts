import { parseArgs } from 'node:util';
import { planeChoice, startControlPlane } from '../control-plane/start.ts';
import { Product } from '../start/product.ts';
import { runSmoke } from './smoke.ts';

const { values } = parseArgs({
  options: {
    'control-plane': { type: 'string', default: 'auto' },
    json: { type: 'boolean', default: false },
    'lease-seconds': { type: 'string', default: '10' },
    'idle-seconds': { type: 'string', default: '60' },
  },
});

const began = performance.now();
const say = (line: string) => {
  process.stderr.write(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${line}\n`);
};
const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort(new Error(name)));

const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(10 * 60_000)]);
const controlPlane = await startControlPlane({
  kind: planeChoice(values['control-plane']),
  env: process.env,
  log: say,
  signal,
});
try {
  const product = await Product.start({ controlPlane, say, signal });
  try {
    const report = await runSmoke({
      product,
      leaseSeconds: Number(values['lease-seconds']),
      idleSeconds: Number(values['idle-seconds']),
      say,
      signal,
    });
    for (const problem of report.problems) say(`PROBLEM: ${problem}`);
    for (const missed of report.slow) say(`TOO SLOW: ${missed}`);
    say(report.ok ? 'everything held' : 'not everything held');
    process.stdout.write(
      values.json ? `${JSON.stringify(report)}\n` : `${JSON.stringify(report, null, 2)}\n`,
    );
    process.exitCode = report.ok ? 0 : 1;
  } finally {
    await product.stop();
  }
} finally {
  await controlPlane.stop();
}
