import type { Clock } from '@meshkit/shards/clock';
import type { KubeObject } from '@meshkit/shards/records';
import type { KubeClient } from './kube-client.ts';
import type { Log } from './log.ts';
import type { Resource } from './resource.ts';

export interface Change<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  key: string;
  /** For DELETED the last known state. */
  object: T;
  previous?: T;
}

export interface InformerOptions<T extends KubeObject> {
  client: Pick<KubeClient, 'list' | 'watch'>;
  resource: Resource<T>;
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  indexes?: Record<string, (object: T) => readonly string[]>;
  clock: Clock;
  random: () => number;
  log: Log;
}

export interface InformerState {
  synced: boolean;
  connected: boolean;
  resourceVersion?: string;
  lastError?: string;
  /** Exceptions thrown by handlers since the start. */
  handlerErrors: number;
}

/** `namespace/name`, or `name` of a cluster-scoped object. */
export function objectKey(object: KubeObject): string {
  const { namespace, name } = object.metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

export class Informer<T extends KubeObject> {
  readonly state: InformerState = { synced: false, connected: false, handlerErrors: 0 };

  constructor(o: InformerOptions<T>) {
    o.log.debug({ resource: o.resource.plural }, 'informer');
  }

  /** Follows the server until aborted; resolves then. */
  async run(_signal: AbortSignal): Promise<void> {
    throw new Error('not written yet');
  }

  /** Resolves once the first list has been applied. */
  async synced(_signal?: AbortSignal): Promise<void> {
    throw new Error('not written yet');
  }

  get(_key: string): T | undefined {
    throw new Error('not written yet');
  }

  list(): T[] {
    throw new Error('not written yet');
  }

  byIndex(_index: string, _value: string): T[] {
    throw new Error('not written yet');
  }

  /** Takes over the answer to an own write, so that no decision is made on a state older than it. */
  observe(_object: T): void {
    throw new Error('not written yet');
  }

  observeDeleted(_object: T): void {
    throw new Error('not written yet');
  }

  onChange(_handler: (change: Change<T>) => void): () => void {
    throw new Error('not written yet');
  }
}
