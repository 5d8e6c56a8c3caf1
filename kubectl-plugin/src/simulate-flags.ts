import { ShardError } from '@meshkit/shards/errors';
import type { Freeze, HandoffMode, LocalityMode, Strategy } from '@meshkit/shards/records';
import type { SimulatedChange, SimulatedPolicy } from '@meshkit/shards/simulate';
import { InvalidArgumentError, Option } from 'commander';
import { count } from './flags.ts';

/** The flags of `simulate` alone. */
export interface SimulateFlags {
  remove?: string[];
  add?: string[];
  labels?: Record<string, string>;
  weight?: string[];
  cordon?: string[];
  drain?: string[];
  strategy?: Strategy;
  policy?: Record<string, string>;
  filename?: string[];
  recursive?: boolean;
  fieldManager?: string;
  validate: 'server' | 'none';
  maxMoves?: number;
  /** A share, 0.05 for 5 %. */
  maxChurn?: number;
  maxUnplaceable?: number;
}

const STRATEGIES = ['Rendezvous', 'Static'] as const satisfies readonly Strategy[];
const LOCALITIES = ['None', 'Preferred', 'Required'] as const satisfies readonly LocalityMode[];
const FREEZES = ['None', 'Rebalance', 'All'] as const satisfies readonly Freeze[];
const HANDOFFS = ['Graceful', 'Immediate'] as const satisfies readonly HandoffMode[];

const several = (value: string, before: string[] = []): string[] => [...before, ...value.split(',')];

/** What is thought of, made in this order whatever the order of the flags. */
export function simulateOptions(): Option[] {
  return [
    new Option('--remove <node>', 'let it die, or delete its MeshNode; repeat it or use commas').argParser(
      several,
    ),
    new Option('--add <node[:weight[:region[:zone]]]>', 'a new node, ready at once').argParser(several),
    new Option('--labels <key=value>', 'labels of the added nodes, for sets that select by them').argParser(
      pairs,
    ),
    new Option('--weight <node=weight>', 'another weight').argParser(several),
    new Option('--cordon <node>', 'set it to Cordoned').argParser(several),
    new Option('--drain <node>', 'set it to Drain').argParser(several),
    new Option('--strategy <strategy>', 'of the sets').choices(STRATEGIES),
    new Option(
      '--policy <setting=value>',
      'of the sets: locality, loadBound, freeze, maxConcurrentMoves, handoff or drainTimeout; repeat it or use commas',
    ).argParser(pairs),
    ...manifestOptions('also apply these manifests'),
    new Option(
      '--max-moves <n>',
      'exit with 1 when more shards than this leave their node, for another one or because they are retired or disabled',
    ).argParser(limit),
    new Option(
      '--max-churn <percent>',
      'exit with 1 when a larger share than this does, such as 5%',
    ).argParser(share),
    new Option('--max-unplaceable <n>', 'exit with 1 when more shards than this have no place').argParser(
      limit,
    ),
  ];
}

export function manifestOptions(purpose: string): Option[] {
  return [
    new Option(
      '-f, --filename <path>',
      `${purpose}: a file, a folder of YAML, or - for standard input; repeat it`,
    ).argParser((value: string, before: string[] = []) => [...before, value]),
    new Option('-R, --recursive', 'folders of folders too'),
    new Option(
      '--field-manager <name>',
      'apply as this one (default: who applied the object before, else kubectl)',
    ),
  ];
}

export const validateOption = (): Option =>
  new Option('--validate <how>', "server: kube-apiserver's dry run with your kubeconfig; none: leave it out")
    .choices(['server', 'none'])
    .default('server');

function pairs(value: string, before: Record<string, string> = {}): Record<string, string> {
  const given = value.split(',').map((pair) => {
    const [, key, text] = /^([^=]+)=(.*)$/.exec(pair) ?? [];
    if (key === undefined || text === undefined) throw new InvalidArgumentError('KEY=VALUE');
    return [key, text] as const;
  });
  return { ...before, ...Object.fromEntries(given) };
}

function limit(text: string): number {
  return text === '0' ? 0 : count(text);
}

function share(text: string): number {
  const [, number, percent] = /^(\d{1,3}(?:\.\d+)?)(%?)$/.exec(text) ?? [];
  const value = Number(number) / (percent === '%' ? 100 : 1);
  if (value >= 0 && value <= 1) return value;
  throw new InvalidArgumentError('a share such as 5% or 0.05');
}

/** The changes that the flags ask for, in the order of the help. Throws `invalidArgument` for one that cannot be read. */
export function changesOf(flags: SimulateFlags): SimulatedChange[] {
  const { remove = [], add = [], labels, weight = [], cordon = [], drain = [], strategy, policy } = flags;
  if (labels && add.length === 0) throw usage('--labels are those of nodes that --add adds');
  const named = (type: 'drain' | 'cordon' | 'remove') => (text: string) => ({ type, ...nodeOf(text) });
  return [
    ...remove.map(named('remove')),
    ...add.map((text) => addition(text, labels)),
    ...weight.map(reweighing),
    ...cordon.map(named('cordon')),
    ...drain.map(named('drain')),
    ...(strategy ? [{ type: 'strategy' as const, strategy }] : []),
    ...(policy ? [{ type: 'policy' as const, ...policyOf(policy) }] : []),
  ];
}

/** `node-7`, or `fleet/node-7` where pools of several namespaces have one of that name. */
function nodeOf(text: string): { node: string; namespace?: string } {
  const [first = '', second] = text.split('/');
  if (first === '' || second === '') throw usage(`"${text}" is no node: write NODE or NAMESPACE/NODE`);
  return second === undefined ? { node: first } : { namespace: first, node: second };
}

function addition(text: string, labels: Record<string, string> | undefined): SimulatedChange {
  const [name = '', weight, region, zone, ...rest] = text.split(':');
  if (rest.length > 0) throw usage(`--add ${text}: write NODE[:weight[:region[:zone]]]`);
  return {
    type: 'add',
    ...nodeOf(name),
    weight: weight ? wholeNumber(weight, `--add ${text}`) : undefined,
    region: region || undefined,
    zone: zone || undefined,
    labels,
  };
}

function reweighing(text: string): SimulatedChange {
  const [, node, weight] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (node === undefined || weight === undefined) throw usage(`--weight ${text}: write NODE=WEIGHT`);
  return { type: 'weight', ...nodeOf(node), weight: wholeNumber(weight, `--weight ${text}`) };
}

function policyOf(settings: Record<string, string>): SimulatedPolicy {
  const policy: SimulatedPolicy = {};
  for (const [name, value] of Object.entries(settings)) {
    const flag = `--policy ${name}=${value}`;
    if (name === 'locality') policy.locality = oneOf(LOCALITIES, value, flag);
    else if (name === 'freeze') policy.freeze = oneOf(FREEZES, value, flag);
    else if (name === 'loadBound') policy.loadBound = value;
    else if (name === 'maxConcurrentMoves') policy.maxConcurrentMoves = wholeNumber(value, flag);
    else if (name === 'handoff') policy.handoff = { ...policy.handoff, mode: oneOf(HANDOFFS, value, flag) };
    else if (name === 'drainTimeout') policy.handoff = { ...policy.handoff, drainTimeout: value };
    else
      throw usage(
        `${flag}: there are locality, loadBound, freeze, maxConcurrentMoves, handoff and drainTimeout`,
      );
  }
  return policy;
}

function oneOf<T extends string>(allowed: readonly T[], text: string, flag: string): T {
  const found = allowed.find((value) => value.toLowerCase() === text.toLowerCase());
  if (found === undefined) throw usage(`${flag}: use one of ${allowed.join(', ')}`);
  return found;
}

function wholeNumber(text: string, flag: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw usage(`${flag}: "${text}" is not a whole number from 1`);
}

function usage(message: string): ShardError {
  return new ShardError('invalidArgument', message);
}
