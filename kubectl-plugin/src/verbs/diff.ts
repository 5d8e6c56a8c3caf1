import { ShardError } from '@meshkit/shards/errors';
import { GROUP } from '@meshkit/shards/records';
import type { DiffPage } from '@meshkit/shards/repository';
import { shardName } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import { diffText } from '../diff-text.ts';
import { dryRunOf } from '../dry-run-as-user.ts';
import { filterOf, namespaceOf } from '../flags.ts';
import { type ManifestDiff, manifestDiff, manifestDiffText } from '../manifest-diff.ts';
import { manifestsIn } from '../manifests.ts';
import { type Look, printAnswer } from '../print.ts';
import { withProgress } from '../progress.ts';
import type { Call, Work } from '../verb.ts';

interface DiffFlags {
  from?: string;
  to?: string;
  log?: boolean;
  filename?: string[];
  recursive?: boolean;
  fieldManager?: string;
  exitCode?: boolean;
}

export const diff: Work<DiffFlags> = (call) => {
  const { filename, from, to, log } = call.flags;
  const ofTime = from !== undefined || to !== undefined || log === true;
  if (filename && ofTime)
    throw usage('choose one of -f (what would Git change) and --from (what has changed)');
  if (filename) return diffOfManifests(call, filename);
  if (from !== undefined) return diffOfTimes(call, from);
  throw usage('say what to compare: --from TOKEN, TIME or 10m, or -f FOLDER');
};

/** What has changed since a moment, as the journal has it. */
function diffOfTimes({ flags, format, around }: Call<DiffFlags>, from: string): Promise<number> {
  return connected(flags, around, async (source, fallback) => {
    const { to, log, pageSize, limit, exitCode } = flags;
    const filter = filterOf(flags, fallback);
    const range = { mode: log ? ('log' as const) : ('net' as const), from, to };
    const limits = { ...limitsOf(flags, around), pageSize, limit };
    let model: DiffPage | undefined;
    for await (const page of source.diff(filter, range, limits)) {
      const items = [...(model?.items ?? []), ...page.items] as DiffPage['items'];
      model = { ...page, items };
    }
    if (!model) return 0;
    const print = {
      format,
      names: (page: DiffPage) => [...new Set(page.items.map(shardName))],
      text: (page: DiffPage, look: Look) => diffText(page, look, filter.namespace),
    };
    await printAnswer(model, print, flags, around.stdout);
    const { moved, added, removed, statusChanged } = model.summary;
    return exitCode && moved + added + removed + statusChanged > 0 ? 1 : 0;
  });
}

/** What applying the files would change, as kube-apiserver's dry run has it. */
async function diffOfManifests({ flags, format, around }: Call<DiffFlags>, paths: string[]): Promise<number> {
  const { files, stdout } = around;
  const { recursive = false } = flags;
  const context = await around.loadContext({ ...flags, env: around.env });
  const fallback = context?.namespace ?? 'default';
  // For objects that name none; -A says nothing about them.
  const namespace = namespaceOf(flags, fallback) ?? fallback;
  const { items, others } = await manifestsIn(paths, { files, recursive, namespace });
  const applied = await withProgress('waiting for the dry run', around, dryRunOf(items, flags, around));
  const model = manifestDiff(applied, others);
  await printAnswer(model, { format, names, text: manifestDiffText }, flags, stdout);
  const differs = model.summary.added + model.summary.changed > 0;
  return flags.exitCode && differs ? 1 : 0;
}

function names({ items }: ManifestDiff): string[] {
  return items
    .filter(({ change }) => change !== 'Unchanged')
    .map(({ kind, name }) => `${kind.toLowerCase()}.${GROUP}/${name}`);
}

function usage(message: string): ShardError {
  return new ShardError('invalidArgument', message);
}
