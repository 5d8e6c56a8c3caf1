import type { ShardFilter } from '@meshkit/shards/repository';
import { shardColumns, shardName } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import { filterOf } from '../flags.ts';
import { printPages } from '../print.ts';
import type { Work } from '../verb.ts';
import { followList } from './watch.ts';

export const list: Work<object> = ({ flags, format, around }) =>
  connected(flags, around, async (source, fallback) => {
    const filter = filterOf(flags, fallback);
    if (flags.watch) return followList({ source, filter, flags, format, around });
    const { pageSize, limit, headers, allNamespaces = false } = flags;
    const pages = source.pages(filter, { ...limitsOf(flags, around), pageSize, limit });
    const columns = shardColumns({ allNamespaces, wide: format === 'wide', now: around.clock.now() });
    const options = { format, headers, columns, nameOf: shardName, nothing: nothing(filter) };
    await printPages(pages, options, around.stdout, around.stderr);
    return 0;
  });

function nothing(filter: ShardFilter): string {
  const where = filter.namespace === undefined ? '' : ` in namespace ${filter.namespace}`;
  const { namespace: _, ...conditions } = filter;
  const filtered = Object.values(conditions).some((value) => value !== undefined);
  return `No shards${filtered ? ' match' : ' found'}${where}.`;
}
