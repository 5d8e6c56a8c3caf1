import type { Clock } from '@meshkit/shards/clock';
import type { KubeObject } from '@meshkit/shards/records';
import type { KubeClient } from './kube-client.ts';
import type { Log } from './log.ts';
import type { Resource } from './resource.ts';

export type ReflectorEvent<T> =
  | { type: 'REPLACED'; items: T[]; resourceVersion: string }
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T }
  | { type: 'BOOKMARK'; resourceVersion: string };

export interface ReflectorState {
  connected: boolean;
  /** The newest failure; absent while connected. */
  error?: Error;
}

export interface ReflectorOptions<T extends KubeObject> {
  client: Pick<KubeClient, 'list' | 'watch'>;
  resource: Resource<T>;
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  clock: Clock;
  /** In [0, 1). */
  random: () => number;
  log: Log;
  signal: AbortSignal;
  onState?: (state: ReflectorState) => void;
  idleTimeoutMs?: number;
}

/** REPLACED first, then changes in order, and REPLACED again whenever history was lost. Never ends until aborted. */
export function reflect<T extends KubeObject>(_o: ReflectorOptions<T>): AsyncIterable<ReflectorEvent<T>> {
  throw new Error('not written yet');
}
