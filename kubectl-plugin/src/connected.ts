import { connect } from './connection.ts';
import type { Flags } from './flags.ts';
import { withProgress } from './progress.ts';
import type { ShardSource } from './shard-source.ts';
import type { Surroundings } from './surroundings.ts';

/** Runs `use` with the source of the flags and the namespace of the kubeconfig's context, and closes the source. */
export async function connected(
  flags: Flags,
  around: Surroundings,
  use: (source: ShardSource, namespace: string) => Promise<number>,
  { follows = flags.watch === true } = {},
): Promise<number> {
  const { source, namespace } = await connect(flags, around);
  try {
    const work = use(source, namespace);
    return await (follows ? work : withProgress(`waiting for ${source.server}`, around, work));
  } finally {
    await source.close();
  }
}

export function limitsOf(flags: Flags, { signal }: Surroundings) {
  return { signal, timeoutMs: flags.requestTimeout };
}
