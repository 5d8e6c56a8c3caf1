import { ShardError } from '@meshkit/shards/errors';
import { PHASES, parseShardFilter } from '@meshkit/shards/filter';
import type { ShardFilter } from '@meshkit/shards/repository';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type ConnectionFlags, MODES } from './connection.ts';
import { FORMATS, type Format } from './format.ts';
import type { Verb } from './verb.ts';

/** The flags of every verb, as they were given. */
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
  watch?: boolean;
  pageSize: number;
  limit?: number;
  /** Milliseconds. */
  requestTimeout: number;
}

/**
 * Every verb has the same flags. Those that have nothing to say to a verb are left out of its help, and refused by name
 * rather than passed over.
 */
const FLAG_GROUPS = {
  namespace: ['-n, --namespace <name>'],
  allNamespaces: ['-A, --all-namespaces'],
  filters: ['--owner <node>', '--status <phase>', '--set <name>', '--zone <zone>', '--search <text>'],
  set: ['--set <name>'],
  pages: ['--page-size <n>'],
  limit: ['--limit <n>'],
  watch: ['-w, --watch'],
} as const;
export type FlagGroup = keyof typeof FLAG_GROUPS;

const several = (value: string, before: string[] = []): string[] => [...before, value];

function selectionOptions(): Option[] {
  return [
    new Option('-n, --namespace <name>', "this namespace (default: the kubeconfig context's)"),
    new Option('-A, --all-namespaces', 'all namespaces'),
    new Option('--owner <node>', 'only shards of this node; repeat it or use commas').argParser(several),
    new Option(
      '--status <phase>',
      `only shards in this phase (${PHASES.join(', ')}); repeat it or use commas`,
    ).argParser(several),
    new Option('--set <name>', 'only shards of this ShardSet'),
    new Option('--zone <zone>', 'only shards that ask for this zone; repeat it or use commas').argParser(
      several,
    ),
    new Option('--search <text>', 'only shards whose id contains this text'),
    new Option('-w, --watch', 'then go on and print what changes'),
    new Option('--page-size <n>', 'records per request, at most 1000')
      .argParser(count)
      .default(1_000)
      .conflicts('watch'),
    new Option('--limit <n>', 'stop after this many').argParser(count),
  ];
}

function outputOptions(formats: readonly Format[]): Option[] {
  return [
    new Option('-o, --output <format>', 'how to print').choices([...formats]).default('table'),
    new Option('--json', 'short for -o json'),
    new Option('--table', 'short for -o table'),
    new Option('--no-headers', 'no header line'),
  ];
}

function connectionOptions(): Option[] {
  return [
    new Option(
      '--server <url>',
      'the MeshKit API server (default: MESHKIT_SERVER, or what the kubeconfig says)',
    ),
    new Option(
      '--certificate-authority <file>',
      "PEM of the authority that signed the API server's certificate",
    ),
    new Option(
      '--insecure-skip-tls-verify',
      "do not check the API server's certificate (it gets your token: unsafe)",
    ),
    new Option('--token <token>', "bearer token for the API server (default: the kubeconfig user's)"),
    new Option('--mode <mode>', 'api: the API server; direct: Kubernetes itself; auto: api if it is there')
      .choices(MODES)
      .default('auto'),
    new Option('--kubeconfig <file>', 'as for kubectl'),
    new Option('--context <name>', 'as for kubectl'),
    new Option('--cluster <name>', 'as for kubectl'),
    new Option('--user <name>', 'as for kubectl'),
    new Option('--as <user>', 'act as this user (direct mode only)'),
    new Option('--as-group <group>', 'act as this group too, with --as; repeat it').argParser(several),
    new Option('--request-timeout <duration>', 'for each request; of a watch, until its answer begins')
      .argParser(duration)
      .default(10_000, '10s'),
    new Option('-v, --verbose', 'say on stderr who is asked, and each time that a watch is cut off'),
  ];
}

/** They say how the manifests of -f are read and checked. */
const OF_FILES = ['recursive', 'fieldManager', 'validate'];

/** Gives a verb its flags: those of its own are there already. */
export function withFlags(
  command: Command,
  { heeds, heedsWithFiles = heeds, formats = FORMATS }: Pick<Verb, 'heeds' | 'heedsWithFiles' | 'formats'>,
): Command {
  const shown = flagsOf(heeds);
  const shownWithFiles = flagsOf(heedsWithFiles);
  const groups: [string, Option[]][] = [
    ['Which shards:', selectionOptions()],
    ['Output:', outputOptions(formats)],
    ['Connection:', connectionOptions()],
  ];
  for (const [heading, options] of groups) {
    for (const option of options) {
      option.helpGroup(heading);
      if (heading === 'Which shards:' && !shown.has(option.flags)) option.hideHelp();
      command.addOption(option);
    }
  }
  return command.hook('preAction', () => {
    const verb = command.name();
    const named = command.options.filter(
      (option) => command.getOptionValueSource(option.attributeName()) === 'cli',
    );
    const withFiles = named.some((option) => option.attributeName() === 'filename');
    for (const option of named) {
      const isSelection = option.helpGroupHeading === 'Which shards:';
      const isOfFiles = OF_FILES.includes(option.attributeName());
      if (isSelection && !shown.has(option.flags)) refuse(option, verb);
      if (isSelection && withFiles && !shownWithFiles.has(option.flags)) refuse(option, `${verb} -f`);
      if (isOfFiles && !withFiles) refuse(option, `${verb} without -f`);
    }
  });
}

function flagsOf(groups: readonly FlagGroup[]): ReadonlySet<string> {
  return new Set(groups.flatMap((group): readonly string[] => FLAG_GROUPS[group]));
}

function refuse({ long }: Option, verb: string): never {
  throw new ShardError('invalidArgument', `${long} means nothing to ${verb}`);
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

/** Undefined: all. `fallback` is the namespace when neither -n nor -A is given. */
export function namespaceOf(flags: Flags, fallback: string): string | undefined {
  if (flags.allNamespaces && flags.namespace !== undefined) {
    throw new ShardError('invalidArgument', 'choose one of -n and -A');
  }
  return flags.allNamespaces ? undefined : (flags.namespace ?? fallback);
}

/** The filter of the flags. */
export function filterOf(flags: Flags, fallback: string): ShardFilter {
  try {
    return parseShardFilter({
      namespace: namespaceOf(flags, fallback),
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

export function count(text: string): number {
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
