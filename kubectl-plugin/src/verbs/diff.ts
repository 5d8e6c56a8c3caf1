import { ShardError } from '@meshkit/shards/errors';
import { GROUP } from '@meshkit/shards/records';
import { dryRunOf } from '../dry-run-as-user.ts';
import { namespaceOf } from '../flags.ts';
import { type ManifestDiff, manifestDiff, manifestDiffText } from '../manifest-diff.ts';
import { manifestsIn } from '../manifests.ts';
import { printAnswer } from '../print.ts';
import { withProgress } from '../progress.ts';
import type { Call, Work } from '../verb.ts';

interface DiffFlags {
  from?: string;
  to?: string;
  log?: boolean;
  filename?: string[];
  recursive?: boolean;
  exitCode?: boolean;
}

export const diff: Work<DiffFlags> = (call) => {
  const { filename, from, to, log } = call.flags;
  const ofTime = from !== undefined || to !== undefined || log === true;
  if (filename && ofTime)
    throw usage('choose one of -f (what would Git change) and --from (what has changed)');
  if (filename) return diffOfManifests(call, filename);
  throw usage('say what to compare: --from TOKEN, TIME or 10m, or -f FOLDER');
};

/** What applying the files would change, as kube-apiserver's dry run has it. */
async function diffOfManifests({ flags, format, around }: Call<DiffFlags>, paths: string[]): Promise<number> {
  const { files, stdout } = around;
  const { recursive = false } = flags;
  const context = await around.loadContext({ ...flags, env: around.env });
  const namespace = namespaceOf(flags, context?.namespace ?? 'default') ?? 'default';
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
