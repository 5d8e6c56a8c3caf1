import { bareName, shardColumns, shardName } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import { printAnswer, tableText } from '../print.ts';
import type { Work } from '../verb.ts';
import { followShard } from './watch.ts';

export const get: Work<object> = ({ flags, format, around }, name) =>
  connected(flags, around, async (source, fallback) => {
    const namespace = flags.namespace ?? fallback;
    const shard = await source.get(namespace, bareName(name), limitsOf(flags, around));
    if (flags.watch) return followShard({ source, shard, flags, format, around });
    const columns = shardColumns({ allNamespaces: false, wide: format === 'wide', now: around.clock.now() });
    const print = {
      format,
      names: () => [shardName(shard)],
      text: (model: typeof shard, look: Parameters<typeof tableText>[2]) => tableText([model], columns, look),
    };
    await printAnswer(shard, print, flags, around.stdout);
    return 0;
  });
