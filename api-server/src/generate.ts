import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@meshkit/crds/clock';
import { silentLog } from '@meshkit/crds/log';
import { type Metric, Registry } from 'prom-client';
import { AccessRecorder } from './access-record.ts';
import { apiServerConfig } from './config.ts';
import { type HistorySource, historyOperations } from './history-operations.ts';
import { openApiDocument } from './openapi.ts';
import type { Operation } from './operation.ts';
import { ApiServer } from './server.ts';
import { settingsRows } from './settings.ts';
import { type ReadSource, shardOperations } from './shard-operations.ts';
import { type WatchSource, watchShards } from './watch-operation.ts';

/**
 * Writes openapi/openapi.json and the tables of docs/metrics.md and docs/api.md, from what the sources say of
 * themselves. Nothing is started and no operation runs, so what they would need is left out.
 */
const place = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n');
}

function rewrite(path: string, section: string, content: string): void {
  const text = readFileSync(place(path), 'utf8');
  const [begin, end] = [`<!-- generated: ${section} -->`, '<!-- end -->'];
  const from = text.indexOf(begin);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`${path} has no section "${begin} … ${end}"`);
  writeFileSync(place(path), `${text.slice(0, from)}${begin}\n${content}\n${text.slice(to)}`);
}

const operations = [
  ...shardOperations({} as ReadSource),
  ...historyOperations({} as HistorySource),
  watchShards({ random: () => 0 } as WatchSource) as Operation,
];
writeFileSync(place('openapi/openapi.json'), `${JSON.stringify(openApiDocument(operations), null, 2)}\n`);

const registry = new Registry();
new ApiServer({
  client: undefined as never,
  listen: { host: '', port: 0 },
  healthListen: { host: '', port: 0 },
  tls: { cert: '', key: '' },
  audience: '',
  acceptClusterAudience: false,
  requestsPerSecond: 0,
  clock: systemClock,
  random: () => 0,
  log: silentLog,
  registry,
});
new AccessRecorder(silentLog, registry);
const metrics = registry.getMetricsAsArray().map((metric) => {
  const { name, help, type, labelNames = [] } = metric as unknown as Metric & Described;
  return [`\`${name}\``, String(type), labelNames.map((label) => `\`${label}\``).join(', '), help];
});
interface Described {
  name: string;
  help: string;
  type: string;
  labelNames?: string[];
}
rewrite('docs/metrics.md', 'metrics', table(['metric', 'type', 'labels', 'meaning'], metrics.sort()));

const settings = settingsRows(apiServerConfig).map(({ flag, variable, standard, description }) => [
  `\`${flag}\``,
  `\`${variable}\``,
  standard === '' ? '' : `\`${standard}\``,
  description,
]);
rewrite('docs/api.md', 'settings', table(['flag', 'variable', 'default', 'meaning'], settings));
