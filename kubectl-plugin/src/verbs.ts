import { GROUP } from '@meshkit/shards/records';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import { nodeColumns, shardColumns } from './columns.ts';
import { connect } from './connection.ts';
import { type Flags, filterOf, formatOf } from './flags.ts';
import { documentOf, type PrintOptions, printPages } from './print.ts';
import type { ShardSource } from './shard-source.ts';
import type { Surroundings } from './surroundings.ts';

/** Each verb: flags to filter, filter to view model by a source, view model to output. */
export async function listShards(flags: Flags, around: Surroundings): Promise<void> {
  const format = formatOf(flags);
  await withSource(flags, around, async (source, namespace) => {
    const filter = filterOf(flags, namespace);
    const { pageSize, limit } = flags;
    const pages = source.pages(filter, { ...limitsOf(flags, around), pageSize, limit });
    const { allNamespaces } = flags;
    const where = filter.namespace === undefined ? '' : ` in namespace ${filter.namespace}`;
    const conditions = Object.values({ ...filter, namespace: undefined }).some(
      (value) => value !== undefined,
    );
    const nothing = `No shards${conditions ? ' match' : ' found'}${where}.`;
    await printPages(
      pages,
      shardOptions(flags, { format, allNamespaces, nothing }, around),
      around.stdout,
      around.stderr,
    );
  });
}

export async function getShard(name: string, flags: Flags, around: Surroundings): Promise<void> {
  const format = formatOf(flags);
  await withSource(flags, around, async (source, fallback) => {
    const namespace = flags.namespace ?? fallback;
    const shard = await source.get(namespace, name, limitsOf(flags, around));
    if (format === 'json' || format === 'yaml') {
      await around.stdout.write(await documentOf(shard, format));
      return;
    }
    const options = shardOptions(flags, { format, nothing: '' }, around);
    await printPages(once([shard]), options, around.stdout, around.stderr);
  });
}

export async function listNodes(flags: Flags, around: Surroundings): Promise<void> {
  const format = formatOf(flags);
  await withSource(flags, around, async (source, fallback) => {
    const namespace = flags.allNamespaces ? undefined : (flags.namespace ?? fallback);
    const nodes = await source.nodes(namespace, limitsOf(flags, around));
    const allNamespaces = flags.allNamespaces === true;
    const options: PrintOptions<NodeView> = {
      format,
      headers: flags.headers,
      columns: nodeColumns({ allNamespaces, wide: format === 'wide' }),
      nameOf: (node) => `meshnode.${GROUP}/${node.name}`,
      nothing: `No mesh nodes found${namespace === undefined ? '' : ` in namespace ${namespace}`}.`,
    };
    await printPages(once(nodes), options, around.stdout, around.stderr);
  });
}

function shardOptions(
  { headers }: Flags,
  o: { format: PrintOptions<ShardView>['format']; allNamespaces?: boolean; nothing: string },
  { clock }: Surroundings,
): PrintOptions<ShardView> {
  const { format, allNamespaces = false, nothing } = o;
  return {
    format,
    headers,
    columns: shardColumns({ allNamespaces, wide: format === 'wide', now: clock.now() }),
    nameOf: (shard) => `shardassignment.${GROUP}/${shard.name}`,
    nothing,
  };
}

async function withSource(
  flags: Flags,
  around: Surroundings,
  use: (source: ShardSource, namespace: string) => Promise<void>,
): Promise<void> {
  const { source, namespace } = await connect(flags, around);
  try {
    await use(source, namespace);
  } finally {
    await source.close();
  }
}

function limitsOf(flags: Flags, { signal }: Surroundings) {
  return { signal, timeoutMs: flags.requestTimeout };
}

async function* once<T>(value: T): AsyncGenerator<T> {
  yield value;
}
