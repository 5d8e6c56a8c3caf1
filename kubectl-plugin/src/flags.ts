import { ShardError } from '@meshkit/shards/errors';
import { PHASES, parseShardFilter } from '@meshkit/shards/filter';
import type { ShardFilter } from '@meshkit/shards/repository';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type ConnectionFlags, MODES } from './connection.ts';
import { FORMATS, type Format } from './print.ts';

/** The flags that every verb understands; not every verb heeds all of them. */
export interface Flags extends ConnectionFlags {
  namespace?: string;
  allNamespaces?: boolean;
  owner?: string[];
  status?: string[];
  set?: string;
  zone?: string[];
  search?: string;
  output?: Format;
  json?: boolean;
  table?: boolean;
  headers: boolean;
  pageSize: number;
  limit?: number;
  /** Milliseconds. */
  requestTimeout: number;
}

const several = (value: string, before: string[] = []): string[] => [...before, value];

export function withFilters(command: Command): Command {
  return command
    .optionsGroup('Which shards:')
    .option('-n, --namespace <name>', "this namespace (default: the kubeconfig context's)")
    .option('-A, --all-namespaces', 'all namespaces')
    .option('--owner <node>', 'only shards of this node; repeat it or use commas', several)
    .option(
      '--status <phase>',
      `only shards in this phase (${PHASES.join(', ')}); repeat it or use commas`,
      several,
    )
    .option('--set <name>', 'only shards of this ShardSet')
    .option('--zone <zone>', 'only shards that ask for this zone; repeat it or use commas', several)
    .option('--search <text>', 'only shards whose id contains this text')
    .option('--page-size <n>', 'shards per request, at most 1000', count, 1_000)
    .option('--limit <n>', 'stop after this many', count);
}

export function withNamespace(command: Command): Command {
  return command.option('-n, --namespace <name>', "this namespace (default: the kubeconfig context's)");
}

export function withOutput(command: Command): Command {
  return command
    .optionsGroup('Output:')
    .addOption(
      new Option('-o, --output <format>', 'how to print').choices(FORMATS).default('table').conflicts([]),
    )
    .option('--json', 'short for -o json')
    .option('--table', 'short for -o table')
    .option('--no-headers', 'no header line');
}

export function withConnection(command: Command): Command {
  return command
    .optionsGroup('Connection:')
    .option('--server <url>', 'the MeshKit API server (default: MESHKIT_SERVER, or what the kubeconfig says)')
    .option('--certificate-authority <file>', "PEM of the authority that signed the API server's certificate")
    .option(
      '--insecure-skip-tls-verify',
      "do not check the API server's certificate (it gets your token: unsafe)",
    )
    .option('--token <token>', "bearer token for the API server (default: the kubeconfig user's)")
    .addOption(
      new Option('--mode <mode>', 'api: the API server; direct: Kubernetes itself; auto: api if it is there')
        .choices(MODES)
        .default('auto'),
    )
    .option('--kubeconfig <file>', 'as for kubectl')
    .option('--context <name>', 'as for kubectl')
    .option('--as <user>', 'act as this user (direct mode only)')
    .addOption(
      new Option('--request-timeout <duration>', 'for each request')
        .argParser(duration)
        .default(10_000, '10s'),
    )
    .option('-v, --verbose', 'say on stderr what is being done');
}

/** `--json` and `--table` are short forms; two different wishes are a mistake. */
export function formatOf({ output = 'table', json, table }: Flags): Format {
  const wishes = new Set([
    ...(output === 'table' ? [] : [output]),
    ...(json ? ['json'] : []),
    ...(table ? ['table'] : []),
  ]);
  if (wishes.size > 1) {
    throw new ShardError('invalidArgument', `choose one of -o ${[...wishes].join(' and ')}`);
  }
  return ([...wishes][0] ?? 'table') as Format;
}

/** The filter of the flags; `fallback` is the namespace when neither -n nor -A is given. */
export function filterOf(flags: Flags, fallback: string): ShardFilter {
  try {
    return parseShardFilter({
      namespace: flags.allNamespaces ? undefined : (flags.namespace ?? fallback),
      shardSet: flags.set,
      owner: flags.owner,
      status: flags.status,
      zone: flags.zone,
      search: flags.search,
    });
  } catch (error) {
    throw inFlags(error);
  }
}

/** The API's parameters have other names than our flags in one case. */
function inFlags(error: unknown): unknown {
  if (!(error instanceof ShardError)) return error;
  const { parameter, errors } = error.details as { parameter?: string; errors?: { detail: string }[] };
  if (parameter === undefined) return error;
  const flag = parameter === 'shardSet' ? 'set' : parameter;
  return new ShardError(
    error.code,
    `--${flag}: ${errors?.[0]?.detail ?? error.message}`,
    error.details,
    error,
  );
}

function count(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('a whole number from 1');
}

function duration(text: string): number {
  const match = /^(\d{1,5})(ms|s|m)?$/.exec(text);
  const unit = { ms: 1, s: 1_000, m: 60_000 }[match?.[2] ?? 's'] ?? 0;
  const ms = Number(match?.[1]) * unit;
  if (ms > 0) return ms;
  throw new InvalidArgumentError('a duration such as 10s or 2m');
}
