import { systemClock } from '@meshkit/crds/clock';
import { loadKube } from '@meshkit/crds/kube-config';
import { probe } from '@meshkit/crds/probe';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { apiServerConfig } from './config.ts';
import { processLog } from './process-log.ts';
import { ApiServer } from './server.ts';
import { readSettings, settingsHelp } from './settings.ts';

/** Above the server's own 8 s drain: whatever still hangs then is not worth waiting for. */
const LAST_RESORT_MS = 9_500;
const MAX_LOG_BYTES = 16 << 20;

async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  if (argv.includes('--help')) {
    process.stdout.write(`meshkit-api-server: serves shard ownership.\n\n${settingsHelp(apiServerConfig)}\n`);
    return;
  }
  const { kubeconfig, context, printConfig, tlsCert, tlsKey, logLevel, ...config } = readSettings(
    apiServerConfig,
    argv,
    env,
  );
  if (printConfig) {
    const effective = { kubeconfig, context, tlsCert, tlsKey, logLevel, ...config };
    process.stdout.write(`${JSON.stringify(effective, null, 2)}\n`);
    return;
  }
  const log = processLog({ level: logLevel, fd: 2, maxBytes: MAX_LOG_BYTES });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const client = loadKube({ kubeconfig, context, env, userAgent: 'meshkit-api-server' });
  const server = new ApiServer({
    ...config,
    tls: { cert: tlsCert, key: tlsKey },
    client,
    clock: systemClock,
    random: Math.random,
    log,
    registry,
  });
  const stopping = new AbortController();
  const stop = (signal: string): void => {
    log.info({ signal }, 'stopping');
    stopping.abort();
    setTimeout(() => process.exit(1), LAST_RESORT_MS).unref();
    server.stop().catch((error: unknown) => log.error({ err: error }, 'stopping failed'));
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  await probe(client, stopping.signal).catch((error: unknown) => {
    if (!stopping.signal.aborted) throw error;
  });
  if (!stopping.signal.aborted) {
    await server.start();
    await server.stopped();
  }
  await client.close();
  log.info({}, 'stopped');
  log.flush();
}

try {
  await main(process.argv.slice(2), process.env);
} catch (error) {
  const known = error instanceof ShardError;
  for (const line of known ? error.message.split('\n') : [String((error as Error).stack ?? error)]) {
    process.stderr.write(`meshkit-api-server: ${line}\n`);
  }
  process.exit(known ? ERRORS[error.code].exit : 1);
}
