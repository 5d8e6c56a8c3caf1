import { SCOPES } from '@meshkit/shards/scope';
import { Option } from 'commander';
import { NAMELESS } from './format.ts';
import { manifestOptions, simulateOptions, validateOption } from './simulate-flags.ts';
import type { Verb } from './verb.ts';

const SHARD = ['<name>', 'SHARDSET.SHARDID, such as orders.0042'] as const;
const WHERE = ['namespace', 'allNamespaces'] as const;

/** In the order of help and docs. */
export const VERBS: readonly Verb<never>[] = [
  {
    words: 'list',
    alias: 'ls',
    summary: 'list shards with their owners',
    heeds: [...WHERE, 'filters', 'pages', 'limit', 'watch'],
    options: () => [
      new Option(
        '--show-token',
        'also say the resume token: for `watch --resume-token` and `diff --from` (`-w -o json` has one in each event)',
      ).conflicts('watch'),
    ],
    examples: [
      ['list --status draining', 'what is moving'],
      ['list -A --owner node-7 -o wide', 'everything on one node'],
      ['list -w', 'the list, then what changes'],
    ],
    load: async () => (await import('./verbs/list.ts')).list,
  },
  {
    words: 'get',
    summary: 'show one shard',
    arguments: [SHARD],
    heeds: ['namespace', 'watch'],
    examples: [['get orders.0042 -o yaml', 'all that is served of it']],
    load: async () => (await import('./verbs/get.ts')).get,
  },
  {
    words: 'watch',
    summary: 'print what changes, as it changes',
    more: 'Prints nothing of what exists already; `list -w` does. Goes on over restarts of the server, until Ctrl-C.',
    heeds: [...WHERE, 'filters', 'limit'],
    options: () => [
      new Option('--resume-token <token>', 'begin after this token, of a list or an earlier watch'),
      new Option('--show-bookmarks', 'also say up to where nothing changed'),
    ],
    examples: [
      ['watch --set orders', 'moves of one set'],
      ['watch -o json --resume-token "$TOKEN"', 'one JSON document a line, from where you were'],
    ],
    load: async () => (await import('./verbs/watch.ts')).watch,
  },
  {
    words: 'status',
    summary: 'say what is wrong now, and what to do next; exit code 1 when something is',
    heeds: [...WHERE, 'filters'],
    options: () => [
      new Option('--lease-namespace <name>', "where the operator's leader Lease lives").default(
        'meshkit-system',
      ),
      new Option('--lease-name <name>', "the operator's leader Lease").default('meshkit-operator'),
    ],
    examples: [
      ['status -A', 'the first command on call'],
      ['status -o json', 'for a probe'],
    ],
    load: async () => (await import('./verbs/status.ts')).status,
  },
  {
    words: 'diff',
    summary: 'say what has changed since a time or token, or what manifests would change',
    more: 'With -f every object of the manifests is compared: flags that choose shards are for --from.',
    heeds: [...WHERE, 'filters', 'pages', 'limit'],
    heedsWithFiles: WHERE,
    options: () => [
      new Option(
        '--from <moment>',
        'a duration before now (10m), a time (RFC 3339), a resume token or a position',
      ),
      new Option('--to <moment>', 'likewise; absent: now'),
      new Option('--log', 'every change, instead of a line a shard'),
      ...manifestOptions('what applying these manifests would change'),
      new Option('--exit-code', 'exit with 1 when there are differences'),
    ],
    examples: [
      ['diff --from 10m', 'what moved in the last ten minutes'],
      ['diff --from 2h --to 1h --log -o wide', 'each change of that hour, by whom and why'],
      ['diff -f deploy/ --exit-code', 'what would Git change'],
    ],
    load: async () => (await import('./verbs/diff.ts')).diff,
  },
  {
    words: 'simulate',
    summary: 'say what would move; writes nothing',
    more: 'Without changes it says what the operator is about to do. Changes are made in the order of this help, after the manifests.',
    heeds: [...WHERE, 'set'],
    options: () => [...simulateOptions(), validateOption()],
    examples: [
      ['simulate --drain node-7', 'before maintenance'],
      ['simulate --add node-8:2:eu-central:eu-central-1a --labels app=orders-worker', 'before growing'],
      ['simulate --remove node-7 --add node-7:4', 'another machine for a node'],
      ['simulate -f deploy/ --max-churn 5% --max-unplaceable 0', 'a check of a pull request'],
    ],
    load: async () => (await import('./verbs/simulate.ts')).simulate,
  },
  {
    words: 'explain',
    summary: 'say why a shard is where it is, and why not elsewhere',
    arguments: [SHARD],
    heeds: ['namespace'],
    examples: [
      ['explain orders.0042', 'each node: score, room, verdict, and the setting that would change it'],
    ],
    load: async () => (await import('./verbs/explain.ts')).explain,
  },
  {
    words: 'history',
    summary: 'say what happened to a shard, by whom and why, newest first',
    arguments: [SHARD],
    heeds: ['namespace', 'pages', 'limit'],
    formats: NAMELESS,
    options: () => [
      new Option(
        '--since <moment>',
        'a duration before now (2h), a time (RFC 3339), a resume token or a position',
      ),
    ],
    examples: [['history orders.0042 --since 1d', 'its changes of the last day']],
    load: async () => (await import('./verbs/history.ts')).history,
  },
  {
    words: 'nodes',
    summary: 'list mesh nodes with the number of their shards',
    heeds: [...WHERE, 'limit'],
    examples: [['nodes -o wide', 'with region and endpoint']],
    load: async () => (await import('./verbs/nodes.ts')).nodes,
  },
  {
    words: 'auth can-i',
    summary: 'whether you have a scope, and the command that grants it',
    arguments: [['<scope>', SCOPES.join(', '), SCOPES]],
    heeds: WHERE,
    formats: NAMELESS,
    examples: [['auth can-i observe -n payments', 'yes or no; exit code 1 for no']],
    load: async () => (await import('./verbs/auth.ts')).canI,
  },
  {
    words: 'auth whoami',
    summary: 'who you are to the server, and what you may do',
    heeds: WHERE,
    formats: NAMELESS,
    examples: [['auth whoami', 'user, groups and scopes']],
    load: async () => (await import('./verbs/auth.ts')).whoAmI,
  },
  {
    words: 'version',
    summary: 'versions of this program, the server and the operator',
    heeds: [],
    formats: NAMELESS,
    options: () => [new Option('--client', 'of this program only; asks nobody')],
    examples: [['version --client', 'works without a cluster']],
    load: async () => (await import('./verbs/version.ts')).version,
  },
];
