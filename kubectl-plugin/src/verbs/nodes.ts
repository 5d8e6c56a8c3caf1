import { GROUP } from '@meshkit/shards/records';
import type { NodeView } from '@meshkit/shards/shard-view';
import { nodeColumns } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import { namespaceOf } from '../flags.ts';
import { type PrintOptions, printPages } from '../print.ts';
import type { Work } from '../verb.ts';

export const nodes: Work<object> = ({ flags, format, around }) =>
  connected(flags, around, async (source, fallback) => {
    const namespace = namespaceOf(flags, fallback);
    const found = await source.nodes(namespace, limitsOf(flags, around));
    const options: PrintOptions<NodeView> = {
      format,
      headers: flags.headers,
      columns: nodeColumns({ allNamespaces: namespace === undefined, wide: format === 'wide' }),
      nameOf: ({ name }) => `meshnode.${GROUP}/${name}`,
      nothing: `No mesh nodes found${namespace === undefined ? '' : ` in namespace ${namespace}`}.`,
    };
    await printPages(once(found.slice(0, flags.limit)), options, around.stdout, around.stderr);
    return 0;
  });

async function* once<T>(value: T): AsyncGenerator<T> {
  yield value;
}
