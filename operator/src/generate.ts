import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { configRows } from './config.ts';
import { OperatorMetrics } from './metrics.ts';

/** Rewrites the tables of docs/operator.md that are told by the sources: settings and metrics. */
const path = fileURLToPath(new URL('../../docs/operator.md', import.meta.url));

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n');
}

function replaced(text: string, name: string, content: string): string {
  const [begin, end] = [`<!-- generated: ${name} -->`, '<!-- end -->'];
  const from = text.indexOf(begin);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`docs/operator.md has no section "${begin} … ${end}"`);
  return `${text.slice(0, from)}${begin}\n${content}\n${text.slice(to)}`;
}

const settings = configRows().map(({ flag, variable, default: value, description }) => [
  `\`${flag}\``,
  `\`${variable}\``,
  value === '' ? '' : `\`${value}\``,
  description,
]);
const { registry } = new OperatorMetrics({ monotonic: () => 0 });
const metrics = (await registry.getMetricsAsJSON()).map(({ name, type, help }) => [
  `\`${name}\``,
  `${type}`,
  help,
]);

const before = readFileSync(path, 'utf8');
const withSettings = replaced(
  before,
  'settings',
  table(['flag', 'variable', 'default', 'meaning'], settings),
);
writeFileSync(path, replaced(withSettings, 'metrics', table(['metric', 'type', 'meaning'], metrics)));
