import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { API_VERSION, type ShardAssignment } from './records.ts';
import { fingerprint, StateDigest } from './state-digest.ts';

function shard(id: number, version: number, note = ''): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace: 'a', name: `orders.${id}`, uid: `u-${id}`, annotations: { note } },
    spec: { shardSet: 'orders', shardId: String(id) },
    status: { phase: 'Active', owner: 'node-1', epoch: version, version },
  };
}

function digestOf(records: readonly ShardAssignment[]): string {
  const digest = new StateDigest();
  for (const record of records) digest.add(fingerprint(record));
  return digest.toString();
}

describe('the digest of a state', () => {
  it('depends on what is held, not on the way there', () => {
    const id = fc.nat(20);
    fc.assert(
      fc.property(fc.array(fc.record({ id, keep: fc.boolean() })), (steps) => {
        const digest = new StateDigest();
        const held = new Map<number, ShardAssignment>();
        for (const [version, step] of steps.entries()) {
          const known = held.get(step.id);
          if (known) digest.remove(fingerprint(known));
          held.delete(step.id);
          if (!step.keep) continue;
          const record = shard(step.id, version);
          held.set(step.id, record);
          digest.add(fingerprint(record));
        }
        expect(digest.toString()).toBe(digestOf([...held.values()].reverse()));
      }),
    );
  });

  it('differs when anything served differs, and does not when nothing does', () => {
    expect(digestOf([shard(1, 1)])).not.toBe(digestOf([shard(1, 2)]));
    expect(digestOf([shard(1, 1)])).not.toBe(digestOf([shard(1, 1), shard(2, 1)]));
    expect(digestOf([shard(1, 1)])).toBe(digestOf([shard(1, 1, 'somebody wrote here')]));
  });
});
