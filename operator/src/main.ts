import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { systemClock } from '@meshkit/crds/clock';
import { JOURNAL_NAME } from '@meshkit/crds/journal-objects';
import { loadKube } from '@meshkit/crds/kube-config';
import { probe } from '@meshkit/crds/probe';
import { ShardError } from '@meshkit/shards/errors';
import pino from 'pino';
import manifest from '../package.json' with { type: 'json' };
import { type OperatorConfig, parseConfig } from './config.ts';
import type { JournalSettings } from './journal-settings.ts';
import { Manager } from './manager.ts';

/** Exit codes: 0 stopped as asked, 1 failed, 2 wrong settings. Logs are JSON on stderr; stdout has only what was asked for. */
const STOP_WITHIN_MS = 10_000;

async function main(): Promise<number> {
  const parsed = parseConfig(process.argv.slice(2), process.env);
  if (!parsed.ok) {
    process.stderr.write(`meshkit-operator: ${parsed.problems.join('\nmeshkit-operator: ')}\n`);
    return 2;
  }
  if ('help' in parsed) {
    process.stdout.write(parsed.help);
    return 0;
  }
  if (parsed.printConfig) {
    process.stdout.write(`${JSON.stringify(parsed.config, undefined, 2)}\n`);
    return 0;
  }
  return operate(parsed.config);
}

async function operate(config: OperatorConfig): Promise<number> {
  const log = pino(
    { level: config.logLevel, base: undefined, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination(2),
  );
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      log.info({ signal: name }, 'stopping');
      stop.abort();
      // A request that hangs must not keep the pod; the Lease then simply expires.
      setTimeout(() => process.exit(1), STOP_WITHIN_MS).unref();
    });
  }
  try {
    const client = loadKube({ kubeconfig: config.kubeconfig, context: config.context });
    await probe(client, stop.signal);
    const manager = new Manager({
      client,
      namespace: config.namespace,
      leaseName: config.leaseName,
      watchNamespace: config.watchNamespace,
      leaseDurationMs: config.leaseDuration,
      identity: config.identity ?? `${hostname()}_${process.pid}_${randomBytes(4).toString('hex')}`,
      version: manifest.version,
      listen: config.listen,
      nodeLeaseDurationMs: config.nodeLeaseDuration,
      concurrentSets: config.concurrentSets,
      parallelWrites: config.parallelWrites,
      clock: systemClock,
      random: Math.random,
      log,
      processMetrics: true,
      // It is the history of the whole cluster, which rights in one namespace cannot tell.
      journal: config.watchNamespace === undefined ? journalSettings(config) : undefined,
    });
    await manager.run(stop.signal);
    await client.close();
    log.info({}, 'stopped');
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return 0;
    // A person's mistake is one line; everything else keeps its stack for us.
    if (error instanceof ShardError) process.stderr.write(`meshkit-operator: ${error.message}\n`);
    else log.error({ err: error }, 'failed');
    return 1;
  }
}

function journalSettings({ journalRetention, journalSize, newLineage }: OperatorConfig): JournalSettings {
  return {
    name: JOURNAL_NAME,
    retentionMs: journalRetention,
    retentionBytes: journalSize << 20,
    newLineage,
  };
}

// Not by an empty event loop: kept-alive connections would hold the process for seconds.
process.exit(await main());
