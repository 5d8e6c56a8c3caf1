import { SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from '@meshkit/crds/journal-objects';
import { KubernetesJournal } from '@meshkit/crds/journal-reader';
import { loadKube } from '@meshkit/crds/kube-config';
import type { JournalEntry, JournalHead, JournalSlice } from '@meshkit/shards/journal';
import { JournalFold } from '@meshkit/shards/journal-fold';
import { expect, inject } from 'vitest';
import type { JournalSettings } from '../src/journal-settings.ts';
import type { Mesh, RunningOperator } from './mesh.ts';

/** A journal of one test's own, in a cluster that all tests share. */
export class JournalOfTest {
  readonly #mesh: Mesh;
  readonly #signal = new AbortController().signal;
  readonly reader: KubernetesJournal;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
    this.reader = new KubernetesJournal({ client: mesh.admin, name: mesh.namespace });
  }

  settings(more: Partial<JournalSettings> = {}): { journal: JournalSettings } {
    const retention = { retentionMs: 7 * 86_400_000, retentionBytes: 64 << 20 };
    return { journal: { name: this.#mesh.namespace, ...retention, batchMs: 50, ...more } };
  }

  head(): Promise<JournalHead | undefined> {
    return this.reader.head(this.#signal);
  }

  since(position: string): Promise<JournalSlice[]> {
    return Array.fromAsync(this.reader.read(position, this.#signal));
  }

  async entries(): Promise<JournalEntry[]> {
    const head = await this.head();
    if (!head) return [];
    return (await this.since(head.floor.position)).flatMap((slice) => slice.entries);
  }

  /** What the journal holds is what there is. */
  async upToDate(): Promise<void> {
    const shards = () => JournalFold.listed(this.#mesh.shards.list(), '0').mark.anchor;
    const told = async () => (await this.reader.state(this.#signal))?.mark.anchor;
    await expect.poll(async () => (await told()) === shards(), { timeout: 20_000, interval: 50 }).toBe(true);
  }

  async metric({ url }: RunningOperator, name: string): Promise<number> {
    const text = await (await fetch(`${url}/metrics`)).text();
    const line = text.split('\n').find((each) => each.startsWith(`meshkit_journal_${name}`));
    return Number(line?.split(' ').at(-1));
  }

  async deleteOldest(): Promise<void> {
    const [oldest] = (await this.#segments(this.#mesh.admin)).filter((name) => !name.includes('.checkpoint'));
    await this.#mesh.admin.delete(SHARD_JOURNAL_SEGMENTS, { name: oldest ?? '' });
  }

  /** After the test; by a connection of its own, since the mesh is closed. */
  async remove(): Promise<void> {
    const client = loadKube({ kubeconfig: inject('controlPlane').adminKubeconfig });
    for (const name of await this.#segments(client)) await client.delete(SHARD_JOURNAL_SEGMENTS, { name });
    const { items } = await client.list(SHARD_JOURNAL_HEADS);
    if (items.some(({ metadata }) => metadata.name === this.#mesh.namespace))
      await client.delete(SHARD_JOURNAL_HEADS, { name: this.#mesh.namespace });
    await client.close();
  }

  async #segments(client: Mesh['admin']): Promise<string[]> {
    const { items } = await client.listAll(SHARD_JOURNAL_SEGMENTS, { metadataOnly: true });
    const names = items.map(({ metadata }) => metadata.name);
    return names.filter((name) => name.startsWith(`${this.#mesh.namespace}.`)).sort();
  }
}

const hopOf = (uid = '', status?: { version: number; owner?: string; epoch: number }) =>
  status && status.version > 0 ? [`${uid} ${status.version} ${status.owner} ${status.epoch}`] : [];

/** Every hop that the watch of the test saw: uid, version, owner, epoch. */
export function seenHops(mesh: Mesh): string[] {
  return [...new Set(mesh.seen.flatMap((shard) => hopOf(shard.metadata.uid, shard.status)))].sort();
}

/** The same of entries; one that is there twice is here twice. */
export function toldHops(entries: readonly JournalEntry[]): string[] {
  return entries.flatMap(({ after }) => hopOf(after?.uid, after)).sort();
}
