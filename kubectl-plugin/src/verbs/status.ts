import type { ServerStatus } from '@meshkit/client/backend';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import { shardName } from '../columns.ts';
import { type Component, probeOperator, serverComponents } from '../components.ts';
import { connected, limitsOf } from '../connected.ts';
import { connectKube, sameFlags } from '../connection.ts';
import { type Flags, filterOf, namespaceOf } from '../flags.ts';
import { type Health, healthOf, type Problem } from '../health.ts';
import { counted, fieldsText, type Look, printAnswer, styled } from '../print.ts';
import type { CallLimits, ShardSource } from '../shard-source.ts';
import type { Surroundings } from '../surroundings.ts';
import type { Work } from '../verb.ts';

type StatusFlags = Flags & { leaseNamespace: string; leaseName: string };

export const status: Work<Omit<StatusFlags, keyof Flags>> = ({ flags, format, around, program }) =>
  connected(flags, around, async (source, fallback) => {
    const namespace = namespaceOf(flags, fallback);
    const [read, operator] = await Promise.all([
      readAll(source, flags, fallback, around),
      operatorOf(flags, around),
    ]);
    const components = [...refusedBy(source), ...read.components, operator];
    const now = around.clock.now();
    const { leaseNamespace } = flags;
    const same = sameFlags(flags);
    const model = healthOf({ namespace, ...read, components, now, program, same, leaseNamespace });
    const print = {
      format,
      names: () => model.problems.flatMap(namesOf),
      text: (health: Health, look: Look) => healthText(health, look),
    };
    await printAnswer(model, print, flags, around.stdout);
    return model.ok ? 0 : 1;
  });

interface Read {
  shards?: readonly ShardView[];
  nodes?: readonly NodeView[];
  components: Component[];
  server?: ServerStatus;
}

/** Shards, nodes, and the server itself. A source that does not work is a finding, not a failure; one that refuses us is a failure. */
async function readAll(
  source: ShardSource,
  flags: Flags,
  fallback: string,
  around: Surroundings,
): Promise<Read> {
  const filter = filterOf(flags, fallback);
  const limits = { ...limitsOf(flags, around), pageSize: flags.pageSize };
  try {
    const [shards, nodes, said] = await Promise.all([
      Array.fromAsync(source.pages(filter, limits)),
      source.nodes(filter.namespace, limits),
      statusOf(source, filter.namespace, limits),
    ]);
    const { server } = source;
    const components: Component[] = said
      ? serverComponents(server, said)
      : [{ name: 'kubernetes', state: 'ok', server, detail: `answers at ${server}` }];
    const items = shards.flatMap((page) => page.items);
    return { shards: items, nodes, components, server: said instanceof ShardError ? undefined : said };
  } catch (error) {
    if (!(error instanceof ShardError) || ERRORS[error.code].exit !== ERRORS.unavailable.exit) throw error;
    const name = source.kind === 'api' ? ('api' as const) : ('kubernetes' as const);
    return { components: [{ name, state: 'bad', server: source.server, detail: error.message, error }] };
  }
}

/** That Kubernetes could be asked instead does not make it well. */
function refusedBy({ refusal }: ShardSource): Component[] {
  if (!refusal) return [];
  const { server, error } = refusal;
  return [{ name: 'api', state: 'bad', server, detail: error.message, error }];
}

/** A server that does not say how it is may have shards and nodes all the same. */
async function statusOf(
  source: ShardSource,
  namespace: string | undefined,
  limits: CallLimits,
): Promise<ServerStatus | ShardError | undefined> {
  try {
    return await source.status(namespace, limits);
  } catch (error) {
    if (error instanceof ShardError) return error;
    throw error;
  }
}

/** Whoever has only a token for the API server cannot see it. */
async function operatorOf(flags: StatusFlags, around: Surroundings): Promise<Component> {
  const { leaseNamespace, leaseName } = flags;
  let kube: Awaited<ReturnType<typeof connectKube>>;
  try {
    kube = await connectKube({ ...flags, mode: flags.mode === 'direct' ? 'direct' : 'auto' }, around);
  } catch (error) {
    if (!(error instanceof ShardError)) throw error;
    return { name: 'operator', state: 'unknown', detail: error.message };
  }
  try {
    const lease = { namespace: leaseNamespace, name: leaseName };
    return await probeOperator(kube, lease, sameFlags(flags), around.clock, limitsOf(flags, around));
  } finally {
    await kube.close();
  }
}

function namesOf({ kind, subjects }: Problem): string[] {
  if (kind === 'nodeNotReady') return subjects.map(({ name }) => `meshnode.meshkit.omnirelay.io/${name}`);
  return subjects.map(shardName);
}

const TITLES = { api: 'API', operator: 'OPERATOR', kubernetes: 'KUBERNETES', journal: 'JOURNAL' };
/** So many names are shown of one problem; -o wide shows all. */
const SHOWN = 5;

function healthText(health: Health, look: Look): string {
  const { ok, namespace, shards, nodes, components, problems } = health;
  const where = namespace === undefined ? 'all namespaces' : `namespace ${namespace}`;
  const fields = fieldsText(
    [
      ['STATUS', `${ok ? 'ok' : 'BAD'}, ${where}`, ok ? 'green' : 'red'],
      ['SHARDS', shards === undefined ? 'not known' : shardsText(shards)],
      ['NODES', nodes === undefined ? 'not known' : `${nodes.total}: ${nodes.ready} ready`],
      ...components.map(({ name, state, detail }) => {
        const text = state === 'unknown' || state === 'bad' ? `${state}: ${detail}` : detail;
        return [TITLES[name], text, state === 'bad' ? ('red' as const) : undefined] as const;
      }),
    ],
    look,
  );
  return fields + problems.map((problem) => `\n${problemText(problem, health, look)}`).join('');
}

function shardsText({ total, owned, ...phases }: NonNullable<Health['shards']>): string {
  const { active: _, ...rest } = phases;
  const others = Object.entries(rest).filter(([, count]) => count > 0);
  return `${total}: ${owned} owned${others.map(([phase, count]) => `, ${count} ${phase}`).join('')}`;
}

function problemText(problem: Problem, { namespace }: Health, look: Look): string {
  const { severity, title, subjects, detail, next, kind } = problem;
  const names = subjects.map((subject) =>
    namespace === undefined ? `${subject.namespace}/${subject.name}` : subject.name,
  );
  const shown = look.wide ? names : names.slice(0, SHOWN);
  const rest = names.length > shown.length ? ` and ${names.length - shown.length} more` : '';
  const subject = kind === 'nodeNotReady' ? '' : `${counted(subjects.length, 'shard')} `;
  const what = subjects.length === 0 ? title : `${subject}${title}: ${shown.join(', ')}${rest}`;
  const head = styled(severity === 'bad' ? 'red' : 'yellow', severity === 'bad' ? 'BAD ' : 'note', look);
  return `${head}  ${what}\n      ${detail}\n      next: ${next}\n`;
}
