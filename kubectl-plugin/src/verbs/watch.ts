import type { ShardChange, WatchEvent } from '@meshkit/client/shard-tracker';
import type { ShardFilter } from '@meshkit/shards/repository';
import type { ShardView } from '@meshkit/shards/shard-view';
import { changeColumns } from '../change-columns.ts';
import { shardColumns, shardName } from '../columns.ts';
import { connected } from '../connected.ts';
import { type Flags, filterOf } from '../flags.ts';
import type { Format } from '../format.ts';
import { documentOf, lookOf } from '../print.ts';
import type { ShardSource } from '../shard-source.ts';
import type { Surroundings } from '../surroundings.ts';
import { Table } from '../table.ts';
import type { Work } from '../verb.ts';

export const watch: Work<{ resumeToken?: string; showBookmarks?: boolean }> = ({ flags, format, around }) =>
  connected(
    flags,
    around,
    (source, fallback) => {
      const { resumeToken, showBookmarks = false, limit } = flags;
      const filter = filterOf(flags, fallback);
      const printer = new ChangePrinter({
        flags,
        format,
        around,
        allNamespaces: filter.namespace === undefined,
      });
      const follow = { source, filter, flags, around, resumeToken };
      return printer.print(follow, { existing: resumeToken !== undefined, showBookmarks, limit });
    },
    { follows: true },
  );

interface Follow {
  source: ShardSource;
  filter: ShardFilter;
  flags: Flags;
  around: Surroundings;
  resumeToken?: string;
}

interface FollowList extends Omit<Follow, 'resumeToken'> {
  format: Format;
}

/** `list -w`: the list as `list` prints it, then a line of the same form for each change. */
export async function followList({ format, ...follow }: FollowList): Promise<number> {
  const { flags, filter, around } = follow;
  const allNamespaces = filter.namespace === undefined;
  if (format === 'json' || format === 'yaml') {
    const printer = new ChangePrinter({ flags, format, around, allNamespaces });
    return printer.print(follow, { existing: true, showBookmarks: false, limit: flags.limit });
  }
  const { stdout, clock } = around;
  const wide = format === 'wide';
  const columns = (now: number) => shardColumns({ allNamespaces, wide, now });
  // The newest time decides what an age is; the columns are the same all along.
  const table = new Table<Row>(
    columns(0).map((column, at) => ({
      ...column,
      cell: ({ shard, isGone }) =>
        column.header === 'PHASE' && isGone ? 'Gone' : columns(clock.now())[at]!.cell(shard),
      style: ({ shard, isGone }) => (isGone ? 'dim' : column.style?.(shard)),
    })),
    lookOf(format, flags, stdout),
  );
  let left = flags.limit ?? Number.POSITIVE_INFINITY;
  const print = (rows: readonly Row[]) => {
    left -= rows.length;
    return stdout.write(
      format === 'name' ? rows.map(({ shard }) => `${shardName(shard)}\n`).join('') : table.page(rows),
    );
  };
  let listed: ShardView[] | undefined = [];
  for await (const event of eventsOf(follow)) {
    if (isChange(event)) {
      const { type, current, previous } = event;
      const shard = (current ?? previous) as ShardView;
      if (listed) listed.push(shard);
      else await print([{ shard, isGone: type === 'DELETED' }]);
    } else if (event.type === 'SYNCED' && listed) {
      const rows = listed.sort(byPlace).map((shard) => ({ shard, isGone: false }));
      listed = undefined;
      if (rows.length > 0) await print(rows.slice(0, flags.limit));
    }
    if (left === 0) break;
  }
  return 0;
}

interface Row {
  shard: ShardView;
  isGone: boolean;
}

/** `get -w`: the list of one shard. */
export function followShard(o: Omit<FollowList, 'filter'> & { shard: ShardView }): Promise<number> {
  const { shard, source, ...rest } = o;
  const { namespace, shardSet, shardId, name } = shard;
  const filter = { namespace, shardSet, search: shardId };
  // The filter takes a part of an id; one shard is what was asked for.
  const isMeant = (event: WatchEvent) => !isChange(event) || (event.current ?? event.previous)?.name === name;
  const only: ShardSource = Object.create(source, {
    watch: {
      value: async function* (...[by, options]: Parameters<ShardSource['watch']>) {
        for await (const event of source.watch(by, options)) if (isMeant(event)) yield event;
      },
    },
  });
  return followList({ ...rest, source: only, filter });
}

/** A restart of a server takes less; from then on whoever looks on should know that silence is no peace. */
const LONG_MS = 15_000;

/**
 * The events of a watch. One that cannot even begin fails like any other request; later the source tries again by itself,
 * without a word until it takes long, unless `-v` asks for it.
 */
async function* eventsOf({ source, filter, flags, around, resumeToken }: Follow) {
  const failed = new AbortController();
  const { clock, stderr } = around;
  // Said on the side: the watch does not wait for it.
  const note = (text: string) => void stderr.write(`note: ${text}\n`);
  let begun = false;
  let lostAt: number | undefined;
  let isSaid = false;
  const events = source.watch(filter, {
    signal: AbortSignal.any([around.signal, failed.signal]),
    timeoutMs: flags.requestTimeout,
    resumeToken,
    onDisconnect: (error, retryInMs) => {
      if (!begun) failed.abort(error);
      lostAt ??= clock.now();
      const when = retryInMs > 0 ? ` in ${(retryInMs / 1_000).toFixed(1)} s` : '';
      const isLong = clock.now() - lostAt >= LONG_MS && !isSaid;
      if (begun && flags.verbose) note(`${error.message}; trying again${when}`);
      else if (begun && isLong) note(`nothing is heard of any more: ${error.message}; still trying`);
      isSaid ||= isLong;
    },
  });
  for await (const event of events) {
    begun = true;
    if (isSaid) note('connected again');
    lostAt = undefined;
    isSaid = false;
    yield event;
  }
  around.signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
}

/** Prints events: a table that grows, or a document each. */
class ChangePrinter {
  readonly #format: Format;
  readonly #around: Surroundings;
  readonly #table: Table<{ event: ShardChange; at: number }>;

  constructor(o: { flags: Flags; format: Format; around: Surroundings; allNamespaces: boolean }) {
    const { flags, format, around, allNamespaces } = o;
    this.#format = format;
    this.#around = around;
    const columns = changeColumns({ allNamespaces, wide: format === 'wide', stream: true });
    this.#table = new Table(columns, lookOf(format, flags, around.stdout));
  }

  async print(
    follow: Follow,
    { existing, showBookmarks, limit }: { existing: boolean; showBookmarks: boolean; limit?: number },
  ): Promise<number> {
    const { stderr } = this.#around;
    // Without a token everything is listed first, so that a restart of the server is told as differences only.
    let shown = existing;
    let left = limit ?? Number.POSITIVE_INFINITY;
    for await (const event of eventsOf(follow)) {
      if (event.type === 'SYNCED') {
        shown = true;
        if (showBookmarks) await this.#say(event);
      } else if (event.type === 'BOOKMARK') {
        if (showBookmarks) await this.#say(event);
      } else if (event.type === 'RESET') {
        if (follow.resumeToken === undefined) continue;
        const text = 'the token cannot be continued; what exists is listed again';
        await stderr.write(`note: ${text} (${event.reason})\n`);
        if (this.#format === 'json' || this.#format === 'yaml') await this.#say(event);
      } else if (shown) {
        await this.#say(event);
        left -= 1;
        if (left === 0) break;
      }
    }
    return 0;
  }

  async #say(event: WatchEvent): Promise<void> {
    const { stdout, clock } = this.#around;
    if (this.#format === 'json') return stdout.write(`${JSON.stringify(plain(event))}\n`);
    if (this.#format === 'yaml') return stdout.write(`---\n${await documentOf(plain(event), 'yaml')}`);
    if (!isChange(event)) {
      return event.type === 'BOOKMARK' || event.type === 'SYNCED'
        ? this.#around.stderr.write(`complete up to ${event.position}\n`)
        : undefined;
    }
    const shard = (event.current ?? event.previous) as ShardView;
    if (this.#format === 'name') return stdout.write(`${shardName(shard)}\n`);
    return stdout.write(this.#table.page([{ event, at: clock.now() }]));
  }
}

function isChange(event: WatchEvent): event is ShardChange {
  return event.type === 'ADDED' || event.type === 'MODIFIED' || event.type === 'DELETED';
}

/** Where nothing can be resumed there is no token to show. */
function plain({ token, ...event }: WatchEvent): object {
  return token === '' ? event : { ...event, token };
}

function byPlace(a: ShardView, b: ShardView): number {
  return a.namespace === b.namespace ? (a.name < b.name ? -1 : 1) : a.namespace < b.namespace ? -1 : 1;
}
