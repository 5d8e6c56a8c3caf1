import type { ShardFilter } from '@meshkit/shards/repository';
import { shardColumns, shardName } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import { filterOf } from '../flags.ts';
import { printPages } from '../print.ts';
import type { SourcePage } from '../shard-source.ts';
import type { Work } from '../verb.ts';
import { followList } from './watch.ts';

export const list: Work<{ showToken?: boolean }> = ({ flags, format, around }) =>
  connected(flags, around, async (source, fallback) => {
    const filter = filterOf(flags, fallback);
    if (flags.watch) return followList({ source, filter, flags, format, around });
    const { pageSize, limit, headers, allNamespaces = false } = flags;
    const pages = source.pages(filter, { ...limitsOf(flags, around), pageSize, limit });
    const token = { newest: undefined as string | undefined };
    const columns = shardColumns({ allNamespaces, wide: format === 'wide', now: around.clock.now() });
    const options = {
      format,
      headers,
      columns,
      nameOf: shardName,
      nothing: nothing(filter),
      more: () => (flags.showToken ? { resumeToken: token.newest } : {}),
    };
    await printPages(itemsOf(pages, token), options, around.stdout, around.stderr);
    const isText = format !== 'json' && format !== 'yaml';
    if (flags.showToken && isText) await around.stderr.write(tokenLine(token.newest));
    return 0;
  });

async function* itemsOf(pages: AsyncIterable<SourcePage>, token: { newest?: string }) {
  for await (const { items, resumeToken } of pages) {
    token.newest = resumeToken;
    yield items;
  }
}

function tokenLine(token: string | undefined): string {
  return token === undefined
    ? 'note: there is no token: only the API server gives one\n'
    : `resume token: ${token}\n`;
}

function nothing(filter: ShardFilter): string {
  const where = filter.namespace === undefined ? '' : ` in namespace ${filter.namespace}`;
  const { namespace: _, ...conditions } = filter;
  const filtered = Object.values(conditions).some((value) => value !== undefined);
  return `No shards${filtered ? ' match' : ' found'}${where}.`;
}
