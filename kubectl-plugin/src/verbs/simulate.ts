import { ShardError } from '@meshkit/shards/errors';
import type { Fault } from '@meshkit/shards/problem';
import { assignmentName } from '@meshkit/shards/records';
import {
  MAX_ITEMS,
  type SimulatedManifest,
  type Simulation,
  type SimulationRequest,
} from '@meshkit/shards/simulate';
import { shardName } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import type { Applied } from '../dry-run.ts';
import { dryRunOf } from '../dry-run-as-user.ts';
import { type Flags, namespaceOf } from '../flags.ts';
import { type Manifest, manifestsIn, titleOf } from '../manifests.ts';
import { percent, printAnswer } from '../print.ts';
import { changesOf, type SimulateFlags } from '../simulate-flags.ts';
import { simulationText } from '../simulation-text.ts';
import type { Surroundings } from '../surroundings.ts';
import type { Work } from '../verb.ts';

export const simulate: Work<SimulateFlags> = ({ flags, format, around }) =>
  connected(flags, around, async (source, fallback) => {
    const changes = changesOf(flags);
    const namespace = namespaceOf(flags, fallback);
    if (flags.set !== undefined && namespace === undefined) {
      throw new ShardError('invalidArgument', '--set needs one namespace: use -n instead of -A');
    }
    const manifests = flags.filename ? await manifestsOf(flags, fallback, around) : [];
    const request: SimulationRequest = {
      namespace,
      shardSet: flags.set,
      changes,
      manifests: manifests.map(({ simulated }) => simulated),
      maxItems: format === 'table' ? undefined : MAX_ITEMS,
    };
    let model: Simulation;
    try {
      model = await source.simulate(request, limitsOf(flags, around));
    } catch (error) {
      throw inFlags(error, changes, manifests);
    }
    await printAnswer(model, { format, names: movedShards, text: simulationText }, flags, around.stdout);
    const exceeded = exceededLimits(model, flags);
    for (const line of exceeded) await around.stderr.write(`limit exceeded: ${line}\n`);
    return exceeded.length > 0 ? 1 : 0;
  });

/** What the files have, as kube-apiserver would apply it. */
async function manifestsOf(
  flags: Flags & SimulateFlags,
  fallback: string,
  around: Surroundings,
): Promise<Manifest[]> {
  const { filename = [], recursive = false, validate } = flags;
  const { files } = around;
  const namespace = flags.namespace ?? fallback;
  const { items } = await manifestsIn(filename, { files, recursive, namespace });
  if (validate === 'none') return items;
  return (await dryRunOf(items, flags, around)).map(asApplied);
}

/** What the server makes of a manifest, not what is written in it: fields that it does not name are left alone. */
function asApplied({ manifest, next }: Applied): Manifest {
  if (!next) return manifest;
  const { spec } = next as SimulatedManifest;
  return { ...manifest, simulated: { ...manifest.simulated, spec } as SimulatedManifest };
}

/** What is wrong with a request is wrong with a flag or a file. */
function inFlags(
  error: unknown,
  changes: NonNullable<SimulationRequest['changes']>,
  manifests: readonly Manifest[],
): unknown {
  if (!(error instanceof ShardError) || !Array.isArray(error.details.errors)) return error;
  const lines = error.details.errors.map(({ pointer, detail }: Fault) => {
    if (pointer === '/body/shardSet') return `--set: ${detail}`;
    const [, list, at, field = ''] = /^\/body\/(changes|manifests)\/(\d+)\/?(.*)$/.exec(pointer) ?? [];
    const change = list === 'changes' ? changes[Number(at)] : undefined;
    if (change) return `--${change.type}${'node' in change ? ` ${change.node}` : ''}: ${detail}`;
    const manifest = list === 'manifests' ? manifests[Number(at)] : undefined;
    if (!manifest) return detail;
    const line = manifest.lineOf(field.replaceAll('/', '.'));
    return `${manifest.file}:${line}: ${titleOf(manifest.object)}: ${detail}`;
  });
  return new ShardError(error.code, lines.join('\n'), {}, error);
}

function movedShards({ sets }: Simulation): string[] {
  return sets.flatMap(({ name, moves }) =>
    moves.map(({ shard }) => shardName({ name: assignmentName(name, shard) })),
  );
}

/** Shards without an owner are not counted: to give them one is no churn. Retired ones are: they lose theirs. */
function exceededLimits({ totals }: Simulation, flags: SimulateFlags): string[] {
  const { maxMoves, maxChurn, maxUnplaceable } = flags;
  const leaving = totals.moves - totals.placements + totals.retired;
  const lines: string[] = [];
  if (maxMoves !== undefined && leaving > maxMoves) {
    lines.push(`${leaving} shards leave their node, --max-moves ${maxMoves}`);
  }
  if (maxChurn !== undefined && totals.fraction > maxChurn) {
    lines.push(`churn ${percent(totals.fraction)}, --max-churn ${percent(maxChurn)}`);
  }
  if (maxUnplaceable !== undefined && totals.unplaceable > maxUnplaceable) {
    lines.push(`${totals.unplaceable} shards without a place, --max-unplaceable ${maxUnplaceable}`);
  }
  return lines;
}
