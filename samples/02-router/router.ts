import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { ShardClient } from '@meshkit/client/shard-client';
import pino from 'pino';

/**
 * A router in miniature: keeps the owners of one ShardSet in memory, says where each KEY on its command line goes, and
 * says it again whenever that changes.
 *
 *   npx node samples/02-router/router.ts --server https://127.0.0.1:8443 --ca ca.crt --token-file token \
 *     --namespace payments --shard-set orders customer-42 customer-43
 *
 * With `--transport grpc` the server is the gRPC port. With `--once` it says where the keys go, and ends.
 */
const { values, positionals: keys } = parseArgs({
  allowPositionals: true,
  options: {
    server: { type: 'string', default: 'https://127.0.0.1:8443' },
    transport: { type: 'string', default: 'sse' },
    ca: { type: 'string' },
    'token-file': { type: 'string' },
    namespace: { type: 'string', default: 'payments' },
    'shard-set': { type: 'string', default: 'orders' },
    once: { type: 'boolean', default: false },
  },
});
if (keys.length === 0) {
  process.stderr.write('router: name at least one key\n');
  process.exit(2);
}

const log = pino({ base: undefined }, pino.destination(2));
const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort());

const client = new ShardClient({
  server: values.server,
  transport: values.transport === 'grpc' ? 'grpc' : 'sse',
  ca: values.ca === undefined ? undefined : await readFile(values.ca, 'utf8'),
  // Re-read before it expires, so a projected ServiceAccount token works for as long as the pod lives.
  token: values['token-file'] === undefined ? undefined : { file: values['token-file'] },
});
const cache = client.cache({
  namespace: values.namespace,
  shardSet: values['shard-set'],
  signal: stop.signal,
  onDisconnect: ({ code, message }, retryInMs) => log.warn({ code, retryInMs }, message),
});

/** What was said last of each key, so that only moves are said. */
const said = new Map<string, string>();

function sayWhere(): void {
  for (const key of keys) {
    const shardId = cache.shardFor(key);
    const owner = cache.ownerOf(shardId);
    const where = owner ? `${owner.node} ${owner.endpoint ?? '-'} epoch ${owner.epoch}` : 'nobody';
    if (said.get(key) === where) continue;
    said.set(key, where);
    process.stdout.write(`${key} -> shard ${shardId} -> ${where}\n`);
  }
}

try {
  await cache.ready(stop.signal);
  sayWhere();
  if (!values.once) {
    cache.onChange(sayWhere);
    await cache.ended();
  }
} catch (error) {
  if (!stop.signal.aborted) {
    process.stderr.write(`router: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
} finally {
  await cache.close();
  await client.close();
}
