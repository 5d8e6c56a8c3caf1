import { limitsOf } from './connected.ts';
import { connectKube } from './connection.ts';
import { type Applied, dryRun } from './dry-run.ts';
import type { Flags } from './flags.ts';
import type { Manifest } from './manifests.ts';
import type { Surroundings } from './surroundings.ts';

/** The dry run of manifests as the kubeconfig's user: the user's own rights count, whoever else is asked. */
export async function dryRunOf(
  manifests: readonly Manifest[],
  flags: Flags & { fieldManager?: string },
  around: Surroundings,
): Promise<Applied[]> {
  const kube = await connectKube({ ...flags, mode: flags.mode === 'direct' ? 'direct' : 'auto' }, around);
  try {
    const applied = await dryRun(kube, manifests, {
      ...limitsOf(flags, around),
      fieldManager: flags.fieldManager,
    });
    for (const { unchecked, manifest } of applied) {
      if (unchecked === undefined) continue;
      await around.stderr.write(`note: ${manifest.file}:${manifest.line}: not checked: ${unchecked}\n`);
    }
    return applied;
  } finally {
    await kube.close();
  }
}
