import { z } from 'zod';
import type { JournalHeadSpec, SegmentId, ShardJournalSegment, StoredMark } from './journal-objects.ts';
import { integer, mirror, type Rule, ruled, text, timestamp } from './schema.ts';

const BIGGEST = Number.MAX_SAFE_INTEGER;
const position = (description: string) =>
  z
    .string()
    .min(1)
    .max(40)
    .regex(/^[0-9]+$/)
    .meta({ description });
const digest = z.string().max(16).meta({ description: 'Digest of the whole served state there.' });

const mark = (description: string) =>
  mirror<StoredMark>()(
    z
      .object({
        position: position('A resourceVersion of a ShardAssignment.'),
        ordinal: integer(0, BIGGEST, 'Tells apart changes that share a position.'),
        anchor: digest,
        at: timestamp('When that was.'),
      })
      .meta({ description }),
  );

const segmentId = (description: string) =>
  mirror<SegmentId>()(
    z
      .object({
        sequence: integer(0, BIGGEST, 'Counts the segments, over all terms.'),
        term: integer(0, BIGGEST, 'The term of its writer.'),
      })
      .meta({ description }),
  );

export const journalHeadSpec = mirror<JournalHeadSpec>()(
  z
    .object({
      cluster: text(64, 'Uid of the namespace kube-system of the cluster whose history this is.'),
      term: integer(1, BIGGEST, 'Grows by one with every operator that takes over writing.'),
      nonce: z.string().max(64).meta({
        description: 'Renewed after a restore of etcd; empty for the first history of a cluster.',
      }),
      nonces: z.array(z.string().max(64)).max(16).meta({
        description: 'The nonces so far, the present one last.',
        'x-kubernetes-list-type': 'atomic',
      }),
      requests: z
        .array(text(128, 'An id.'))
        .max(16)
        .meta({
          description: 'The ids of --new-lineage that were served.',
          'x-kubernetes-list-type': 'atomic',
        })
        .optional(),
      epochFloor: integer(0, BIGGEST, 'Owned shards up to this epoch are granted again.').optional(),
      last: segmentId('The newest segment.').optional(),
      mark: mark('The newest settled state that is written down.'),
      floor: mark('The oldest settled state from which on every change is there.'),
      checkpoint: z
        .object({
          name: text(253, 'What the names of its chunks begin with.'),
          chunks: integer(0, 10_000, 'How many there are.'),
          mark: mark('The state that it holds.'),
          last: segmentId('The last segment that it contains.').optional(),
        })
        .meta({ description: 'A copy of the whole state, so that few segments need to be read.' }),
      entries: integer(0, BIGGEST, 'Changes that are held.'),
      bytes: integer(0, BIGGEST, 'What they take in etcd, about.'),
    })
    .meta({ description: 'Where the journal begins and ends.' }),
);

export const journalHeadRules: readonly Rule<{ spec: { term: number } }>[] = [
  {
    rule: 'self.spec.term >= oldSelf.spec.term',
    message: 'the term never shrinks, since a smaller one would let an old writer go on',
    fieldPath: '.spec.term',
  },
];

export const journalSegmentSpec = mirror<ShardJournalSegment['spec']>()(
  ruled(
    z
      .object({
        type: z.enum(['Entries', 'Checkpoint']).meta({ description: 'Changes, or a part of a state.' }),
        count: integer(0, 10_000_000, 'Changes, or shards.'),
        from: position('The settled position before the first change.'),
        to: position('The settled position after the last change.'),
        encoding: text(32, 'How data is to be read.'),
        checksum: text(16, 'xxh64 of the index annotation and data.'),
        data: z.string().max(600_000).meta({ description: 'base64.' }),
      })
      .meta({ description: 'Compressed changes.' }),
    [
      {
        rule: 'self == oldSelf',
        message: 'a segment is never changed: the journal would not be proof of anything',
      },
    ],
  ),
);
