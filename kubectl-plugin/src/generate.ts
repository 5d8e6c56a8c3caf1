import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ERRORS } from '@meshkit/shards/errors';
import type { Command, Option } from 'commander';
import { build } from './command-line.ts';
import type { Surroundings } from './surroundings.ts';
import type { Verb } from './verb.ts';
import { VERBS } from './verbs.ts';

/** Rewrites the parts of docs/cli.md that the program tells of itself: verbs, flags, exit codes. */
const path = fileURLToPath(new URL('../../docs/cli.md', import.meta.url));

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n');
}

function replaced(text: string, name: string, content: string): string {
  const [begin, end] = [`<!-- generated: ${name} -->`, '<!-- end -->'];
  const from = text.indexOf(begin);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`docs/cli.md has no section "${begin} … ${end}"`);
  return `${text.slice(0, from)}${begin}\n${content}\n${text.slice(to)}`;
}

const nowhere = { write: async () => undefined, color: false };
const around = { stdout: nowhere, stderr: nowhere } as unknown as Surroundings;
const root = build('kubectl-mesh', around, { say: () => undefined, done: () => undefined });
const shards = root.commands[0] as Command;

function commandOf({ words }: Verb): Command {
  return words
    .split(' ')
    .reduce((at, word) => at.commands.find((one) => one.name() === word) as Command, shards);
}

function optionRow(option: Option): string[] {
  const { flags, description, argChoices, defaultValue, defaultValueDescription } = option;
  const choices =
    argChoices === undefined ? '' : `; one of ${argChoices.map((one) => `\`${one}\``).join(', ')}`;
  const standard = defaultValueDescription ?? (typeof defaultValue === 'boolean' ? undefined : defaultValue);
  return [`\`${flags}\``, description + choices, standard === undefined ? '' : `\`${standard}\``];
}

const isOwn = (option: Option) => option.helpGroupHeading?.startsWith('Of ') === true;
const verbs = VERBS as readonly Verb[];

const rows = verbs.map(({ words, alias, summary, arguments: given = [] }) => {
  const names = given.map(([name]) => name.replace(/[<>]/g, '').toUpperCase()).join(' ');
  return [
    `\`${words}${names === '' ? '' : ` ${names}`}\`${alias === undefined ? '' : ` (\`${alias}\`)`}`,
    summary,
  ];
});

const details = verbs.map((verb) => {
  const command = commandOf(verb);
  const own = command.options.filter(isOwn);
  const heeds = command.options
    .filter((option) => option.helpGroupHeading === 'Which shards:' && !option.hidden)
    .map(({ short, long }) => `\`${short ?? long}\``);
  return [
    `### ${verb.words}`,
    `${verb.summary[0]?.toUpperCase()}${verb.summary.slice(1)}.${verb.more === undefined ? '' : ` ${verb.more}`}`,
    heeds.length > 0 ? `Heeds ${heeds.join(', ')}.` : 'Heeds no flag about shards.',
    ...(own.length > 0 ? [table(['flag', 'meaning', 'default'], own.map(optionRow))] : []),
    `\`\`\`sh\n${verb.examples.map(([line, purpose]) => `kubectl mesh shards ${line}   # ${purpose}`).join('\n')}\n\`\`\``,
  ].join('\n\n');
});

const list = commandOf(verbs.find(({ words }) => words === 'list') as Verb);
const common = ['Which shards:', 'Output:', 'Connection:'].map((heading) => {
  const options = list.options.filter((option) => option.helpGroupHeading === heading);
  return `**${heading.slice(0, -1)}**\n\n${table(['flag', 'meaning', 'default'], options.map(optionRow))}`;
});

const meanings: Record<number, string> = {
  0: 'done; for `status`: nothing is wrong',
  1: '`status`: something is wrong · `diff --exit-code`: there are differences · `simulate`: a limit is exceeded · `auth can-i`: no',
  2: 'usage or validation: a flag, a value, a manifest, the kubeconfig',
  3: 'not authenticated, or a right is missing; where a role of ours grants it (a scope, or in direct mode a verb of Kubernetes), stderr has the commands that check and grant it',
  4: 'not found',
  5: 'conflict, stale',
  6: 'unreachable, timed out, or the server cannot answer right now; or standard output cannot be written',
  7: 'token or cursor expired',
  130: 'Ctrl-C',
};
const codes = Object.entries(meanings).map(([exit, meaning]) => {
  const named = Object.entries(ERRORS).filter(([, row]) => row.exit === Number(exit));
  return [exit, meaning, named.map(([code]) => `\`${code}\``).join(', ')];
});

let text = readFileSync(path, 'utf8');
text = replaced(text, 'verbs', table(['verb', 'what'], rows));
text = replaced(text, 'flags', common.join('\n\n'));
text = replaced(text, 'verb by verb', details.join('\n\n'));
text = replaced(text, 'exit codes', table(['code', 'meaning', 'errors'], codes));
writeFileSync(path, text);
