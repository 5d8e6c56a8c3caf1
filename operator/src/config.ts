import { parseArgs } from 'node:util';
import { parseDuration } from '@meshkit/shards/defaults';
import { ShardError } from '@meshkit/shards/errors';
import { z } from 'zod';

const NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

function duration(leastMs: number, mostMs: number) {
  return z.string().transform((text, context) => {
    try {
      const ms = parseDuration(text);
      if (ms >= leastMs && ms <= mostMs) return ms;
      context.addIssue(`must be between ${leastMs / 1000}s and ${mostMs / 1000}s`);
    } catch (error) {
      context.addIssue(error instanceof ShardError ? error.message : String(error));
    }
    return z.NEVER;
  });
}

function integer(least: number, most: number) {
  const message = `must be a whole number between ${least} and ${most}`;
  return z
    .string()
    .regex(/^\d{1,9}$/, message)
    .transform(Number)
    .refine((value) => value >= least && value <= most, message);
}

const DAY_MS = 86_400_000;

const retention = z
  .string()
  .regex(/^[1-9]\d{0,3}[hd]$/, 'must be whole hours or days, such as 12h or 7d')
  .transform((text) => Number.parseInt(text, 10) * (text.endsWith('d') ? DAY_MS : DAY_MS / 24));

const listen = z
  .string()
  .regex(/^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]*):\d{1,5}$/, 'must be host:port, such as 127.0.0.1:8090')
  .transform((text) => {
    const colon = text.lastIndexOf(':');
    const host = text.slice(0, colon).replace(/^\[|\]$/g, '');
    // An empty host is every interface, as Go's listeners read it.
    return { host: host === '' ? '0.0.0.0' : host, port: Number(text.slice(colon + 1)) };
  })
  .refine(({ port }) => port <= 65_535, 'the port is above 65535');

/** The operator's settings: each is a flag (`--lease-duration`) and an environment variable (`MESHKIT_LEASE_DURATION`). */
const CONFIG = z.object({
  kubeconfig: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Path of a kubeconfig. Absent: KUBECONFIG, ~/.kube/config, then the service account of the pod.',
    ),
  context: z.string().min(1).optional().describe('Context of the kubeconfig. Absent: its current one.'),
  namespace: z
    .string()
    .regex(NAME, 'must be the name of a namespace')
    .default('meshkit-system')
    .describe('Where the leader Lease lives.'),
  watchNamespace: z
    .string()
    .regex(NAME, 'must be the name of a namespace')
    .optional()
    .describe(
      'Serve this namespace alone, with rights in it alone; shared pools of nodes need all. Absent: all.',
    ),
  leaseName: z
    .string()
    .regex(NAME, 'must be the name of a Lease')
    .default('meshkit-operator')
    .describe('The leader Lease; operators of one cluster share it.'),
  leaseDuration: duration(1000, 300_000)
    .default(10_000)
    .describe('A standby takes over this long after the leader was last heard of.'),
  identity: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .describe(
      'Holder of the leader Lease; unique to the process. Absent: host name, process id and a random part.',
    ),
  listen: listen
    .default({ host: '127.0.0.1', port: 8090 })
    .describe('Address of /livez, /readyz and /metrics; an empty host is every interface.'),
  nodeLeaseDuration: duration(1000, 3_600_000)
    .default(10_000)
    .describe('Assumed for a MeshNode whose Lease says no leaseDurationSeconds.'),
  concurrentSets: integer(1, 64).default(4).describe('ShardSets worked on at once.'),
  parallelWrites: integer(1, 256).default(32).describe('Requests under way at once for one ShardSet.'),
  journalRetention: retention
    .default(7 * DAY_MS)
    .describe('How long the journal keeps changes: resume tokens, diff and history reach back so far.'),
  journalSize: integer(1, 16_384)
    .default(64)
    .describe('What the journal may take in etcd, in MiB; the oldest changes go first, whatever their age.'),
  newLineage: z
    .string()
    .regex(/^[-A-Za-z0-9._:]{1,128}$/, 'must be an id of letters, digits, "-", "_", "." and ":", at most 128')
    .optional()
    .describe(
      'After a restore of etcd: an id of that restore, such as its date. Every shard is granted again with a new epoch, once for each id, and watchers start over.',
    ),
  logLevel: z
    .enum(['debug', 'info', 'warn', 'error'])
    .default('info')
    .describe('Least severe log lines to write (JSON, on stderr).'),
});

export type OperatorConfig = z.output<typeof CONFIG>;

/** How defaults are written in help and docs: as a person would give them. */
const WRITTEN_DEFAULTS: Partial<Record<keyof OperatorConfig, string>> = {
  namespace: 'meshkit-system',
  leaseName: 'meshkit-operator',
  leaseDuration: '10s',
  listen: '127.0.0.1:8090',
  nodeLeaseDuration: '10s',
  concurrentSets: '4',
  parallelWrites: '32',
  journalRetention: '7d',
  journalSize: '64',
  logLevel: 'info',
};

export interface ConfigRow {
  flag: string;
  variable: string;
  default: string;
  description: string;
}

export function configRows(): ConfigRow[] {
  return keys().map((key) => ({
    flag: flagOf(key),
    variable: variableOf(key),
    default: WRITTEN_DEFAULTS[key] ?? '',
    description: CONFIG.shape[key].description ?? '',
  }));
}

export type ParsedConfig =
  | { ok: true; config: OperatorConfig; printConfig: boolean }
  | { ok: true; help: string }
  /** Every problem at once, one line each. */
  | { ok: false; problems: string[] };

/** Flags win over environment variables, those over defaults. */
export function parseConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedConfig {
  const problems: string[] = [];
  const given: Record<string, unknown> = {};
  for (const key of keys()) given[key] = env[variableOf(key)] || undefined;
  const names = new Map(keys().map((key) => [flagOf(key).slice(2), key]));
  const { tokens } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean' },
      'print-config': { type: 'boolean' },
      ...Object.fromEntries([...names.keys()].map((name) => [name, { type: 'string' as const }])),
    },
    strict: false,
    tokens: true,
  });
  const switches = new Set<string>();
  for (const token of tokens) {
    if (token.kind === 'positional') problems.push(`${token.value}: flags only, no arguments`);
    if (token.kind !== 'option') continue;
    const key = names.get(token.name);
    if (token.name === 'help' || token.name === 'print-config') switches.add(token.name);
    else if (!key) problems.push(`${token.rawName}: no such flag (see --help)`);
    else if (token.value === undefined) problems.push(`${token.rawName}: a value is missing`);
    else given[key] = token.value;
  }
  if (switches.has('help')) return { ok: true, help: helpText() };
  const parsed = CONFIG.safeParse(given);
  for (const issue of parsed.error?.issues ?? []) {
    const key = issue.path[0] as keyof OperatorConfig;
    problems.push(`${flagOf(key)} (${variableOf(key)}): ${issue.message}`);
  }
  if (!parsed.success || problems.length > 0) return { ok: false, problems };
  return { ok: true, config: parsed.data, printConfig: switches.has('print-config') };
}

function keys(): (keyof OperatorConfig)[] {
  return Object.keys(CONFIG.shape) as (keyof OperatorConfig)[];
}

function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function variableOf(key: string): string {
  return `MESHKIT_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

function helpText(): string {
  const rows = configRows().map(({ flag, variable, default: value, description }) => {
    const written = value === '' ? '' : ` (default ${value})`;
    return `  ${flag}  ${description}${written} [${variable}]\n`;
  });
  return `The operator of MeshKit Shards: places shards on mesh nodes and hands them over.\n\n${rows.join('')}  --print-config  Prints the settings as JSON and exits.\n  --help\n`;
}
