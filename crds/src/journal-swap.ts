import { ShardError } from '@meshkit/shards/errors';
import {
  headObject,
  type JournalHeadSpec,
  SHARD_JOURNAL_HEADS,
  type ShardJournalHead,
} from './journal-objects.ts';
import { readHead } from './journal-reader.ts';
import type { KubeClient } from './kube-client.ts';
import { statusOf } from './kube-error.ts';

interface SwapOptions {
  client: Pick<KubeClient, 'get' | 'update'>;
  name: string;
  onWrite?: (kind: 'head', bytes: number) => void;
}

/** The head after a compare-and-swap. A conflict is looked into, never tried again blindly. */
export async function swapped(
  options: SwapOptions,
  head: ShardJournalHead,
  spec: JournalHeadSpec,
  signal: AbortSignal,
): Promise<ShardJournalHead> {
  const { client, name, onWrite } = options;
  const { managedFields: _, ...metadata } = head.metadata;
  const next = headObject(name, spec, metadata);
  try {
    const stored = await client.update(SHARD_JOURNAL_HEADS, next, { signal });
    onWrite?.('head', JSON.stringify(next).length);
    return stored;
  } catch (error) {
    if (statusOf(error) !== 409 && statusOf(error) !== 404) throw error;
    const present = await readHead(client, name, signal);
    // The answer to an earlier try of the same swap was lost.
    if (present && present.metadata.uid === metadata.uid && sameSpec(present.spec, spec)) return present;
    // An earlier try of a swap of ours, with something else: go on from it.
    const isOurs = present?.spec.term === head.spec.term && present.spec.term === spec.term;
    const isLater = (present?.spec.last?.sequence ?? 0) >= (head.spec.last?.sequence ?? 0);
    if (present && isOurs && isLater && present.metadata.uid === metadata.uid) {
      return swapped(options, present, spec, signal);
    }
    throw fenced(present?.spec.term, error);
  }
}

function sameSpec(a: JournalHeadSpec, b: JournalHeadSpec): boolean {
  return (
    a.term === b.term &&
    a.nonce === b.nonce &&
    a.last?.sequence === b.last?.sequence &&
    a.mark.position === b.mark.position &&
    a.floor.position === b.floor.position &&
    a.checkpoint.name === b.checkpoint.name
  );
}

/** Details: reason `journalFenced`. */
export function fenced(term: number | undefined, cause: unknown): ShardError {
  const who = term === undefined ? 'the head of the journal is another one' : `term ${term} has begun`;
  return new ShardError(
    'conflict',
    `this operator may not write the journal any more: ${who}; it has to take over again`,
    { reason: 'journalFenced' },
    cause,
  );
}

export function isFence(error: unknown): boolean {
  return error instanceof ShardError && error.details.reason === 'journalFenced';
}
