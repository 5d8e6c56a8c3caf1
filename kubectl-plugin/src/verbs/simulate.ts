import { ShardError } from '@meshkit/shards/errors';
import { assignmentName } from '@meshkit/shards/records';
import type { SimulatedManifest, Simulation, SimulationRequest } from '@meshkit/shards/simulate';
import { shardName } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import { connectKube } from '../connection.ts';
import { dryRun } from '../dry-run.ts';
import { type Flags, namespaceOf } from '../flags.ts';
import { readManifests } from '../manifests.ts';
import { printAnswer } from '../print.ts';
import { changesOf, type SimulateFlags } from '../simulate-flags.ts';
import { percent, simulationText } from '../simulation-text.ts';
import type { Surroundings } from '../surroundings.ts';
import type { Work } from '../verb.ts';

/** As many as an answer may have. */
const MAX_ITEMS = 10_000;

export const simulate: Work<SimulateFlags> = ({ flags, format, around }) =>
  connected(flags, around, async (source, fallback) => {
    const changes = changesOf(flags);
    const namespace = namespaceOf(flags, fallback);
    if (flags.set !== undefined && namespace === undefined) {
      throw new ShardError('invalidArgument', '--set needs one namespace: use -n instead of -A');
    }
    const manifests = flags.filename && (await manifestsOf(flags, fallback, around));
    const maxItems = format === 'table' ? undefined : MAX_ITEMS;
    const request: SimulationRequest = { namespace, shardSet: flags.set, changes, manifests, maxItems };
    const model = await source.simulate(request, limitsOf(flags, around));
    await printAnswer(model, { format, names: movedShards, text: simulationText }, flags, around.stdout);
    const exceeded = exceededLimits(model, flags);
    for (const line of exceeded) await around.stderr.write(`limit exceeded: ${line}\n`);
    return exceeded.length > 0 ? 1 : 0;
  });

/** What the files have, after kube-apiserver found nothing wrong with it. */
async function manifestsOf(
  flags: Flags & SimulateFlags,
  fallback: string,
  around: Surroundings,
): Promise<SimulatedManifest[]> {
  const { filename = [], recursive = false, validate } = flags;
  const { files } = around;
  const { items } = await readManifests(filename, {
    files,
    recursive,
    namespace: flags.namespace ?? fallback,
  });
  if (validate === 'server') {
    // The user's own rights count, whoever is asked for the simulation.
    const kube = await connectKube({ ...flags, mode: flags.mode === 'direct' ? 'direct' : 'auto' }, around);
    try {
      for (const { unchecked, manifest } of await dryRun(kube, items, limitsOf(flags, around))) {
        if (unchecked === undefined) continue;
        await around.stderr.write(`note: ${manifest.file}:${manifest.line}: not checked: ${unchecked}\n`);
      }
    } finally {
      await kube.close();
    }
  }
  return items.map(({ object }) => {
    const { apiVersion, kind, metadata, spec } = object as SimulatedManifest;
    const { name, namespace, labels, annotations } = metadata;
    return {
      apiVersion,
      kind,
      metadata: { name, namespace, labels, annotations },
      spec,
    } as SimulatedManifest;
  });
}

function movedShards({ sets }: Simulation): string[] {
  return sets.flatMap(({ name, moves }) =>
    moves.map(({ shard }) => shardName({ name: shard.includes('.') ? shard : assignmentName(name, shard) })),
  );
}

/** Shards without an owner are not counted: to give them one is no churn. */
function exceededLimits({ totals }: Simulation, flags: SimulateFlags): string[] {
  const { maxMoves, maxChurn, maxUnplaceable } = flags;
  const leaving = totals.moves - totals.placements;
  return [
    ...(maxMoves !== undefined && leaving > maxMoves
      ? [`${leaving} shards leave their node, --max-moves ${maxMoves}`]
      : []),
    ...(maxChurn !== undefined && totals.fraction > maxChurn
      ? [`churn ${percent(totals.fraction)}, --max-churn ${percent(maxChurn)}`]
      : []),
    ...(maxUnplaceable !== undefined && totals.unplaceable > maxUnplaceable
      ? [`${totals.unplaceable} shards without a place, --max-unplaceable ${maxUnplaceable}`]
      : []),
  ];
}
