import type { KubeClient } from '@meshkit/crds/kube-client';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import type { ShardAssignment } from '@meshkit/shards/records';
import type { EtcdAlone } from '../control-plane/control-plane.ts';
import type { ShardState } from './history.ts';

/** Told of everything that happens to any shard, once and in order. */
export interface OracleListener {
  /** Without a record the shard is gone. */
  truth(position: string, namespace: string, name: string, state: ShardState | undefined): void;
  /** The cluster was set back; what is there now follows. */
  restored(position: string): void;
}

/** An observer of the stored records that no fault reaches. */
export interface Oracle {
  /** How far it has seen; grows with the writes of shards only. */
  readonly position: string;
  /** Resolves once everything that is stored now was told. Rejects when the oracle itself has lost something. */
  settled(): Promise<void>;
  /** `restart` sets the store back, and says when nobody else is there who could write. */
  aroundRestore(restart: (etcdAlone: EtcdAlone) => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

export function stateOf({ metadata, status }: ShardAssignment): ShardState {
  return {
    uid: metadata.uid ?? '',
    generation: metadata.generation ?? 0,
    version: status?.version ?? 0,
    epoch: status?.epoch ?? 0,
    owner: status?.owner,
    phase: status?.phase ?? 'Pending',
  };
}

/** Which version of each object was told last: equal to what is stored once everything was told. */
export class Known {
  readonly #versions = new Map<string, string>();

  /** Without a version it is gone. */
  note(key: string, version: string | undefined): void {
    if (version === undefined) this.#versions.delete(key);
    else this.#versions.set(key, version);
  }

  agrees(stored: readonly (readonly [string, string])[]): boolean {
    return (
      stored.length === this.#versions.size &&
      stored.every(([key, version]) => this.#versions.get(key) === version)
    );
  }
}

const SETTLE_DEADLINE_MS = 20_000;
const POLL_MS = 10;

/**
 * On the embedded plane: a watch of its own, straight at the server and past every proxy. The server may be restarted under it,
 * but keeps its record of changes through that, and the watch goes on after the last version that it has heard of; should that
 * record ever be gone (410), the oracle fails, and the campaign with it, so what it says is complete.
 */
export class KubeOracle implements Oracle {
  readonly #kube: KubeClient;
  readonly #listener: OracleListener;
  readonly #stop = new AbortController();
  readonly #known = new Known();
  #position = '0';
  #failure: Error | undefined;
  #running: Promise<void> = Promise.resolve();

  private constructor(kube: KubeClient, listener: OracleListener) {
    this.#kube = kube;
    this.#listener = listener;
  }

  static async start(kube: KubeClient, listener: OracleListener): Promise<Oracle> {
    const oracle = new KubeOracle(kube, listener);
    const { items, resourceVersion } = await kube.listAll(SHARD_ASSIGNMENTS);
    if (items.length > 0) throw new Error('there are shards already, whose history nobody knows');
    oracle.#position = resourceVersion;
    oracle.#running = oracle.#follow();
    return oracle;
  }

  get position(): string {
    return this.#position;
  }

  async settled(): Promise<void> {
    await until(
      async () => {
        const { items } = await patiently(() => this.#kube.listAll(SHARD_ASSIGNMENTS));
        return this.#known.agrees(
          items.map(({ metadata }) => [
            `${metadata.namespace}/${metadata.name}`,
            metadata.resourceVersion ?? '',
          ]),
        );
      },
      () => this.#failure,
    );
  }

  aroundRestore(): Promise<void> {
    throw new Error('the embedded plane cannot be restored');
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const watch = this.#kube.watch(SHARD_ASSIGNMENTS, {
          resourceVersion: this.#position,
          timeoutSeconds: 3_600,
          signal,
        });
        for await (const event of watch) {
          if (event.type === 'BOOKMARK') continue;
          const { metadata } = event.object;
          const { namespace = '', name, resourceVersion = '' } = metadata;
          this.#position = resourceVersion;
          const state = event.type === 'DELETED' ? undefined : stateOf(event.object);
          this.#known.note(`${namespace}/${name}`, state && resourceVersion);
          this.#listener.truth(resourceVersion, namespace, name, state);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ShardError) || error.details.status === 410 || error.code !== 'unavailable') {
          this.#failure = new Error(`the oracle lost history: ${String(error)}`);
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/** Polls; rejects with the failure, or after 20 s. */
export async function until(
  done: () => boolean | Promise<boolean>,
  failure: () => Error | undefined,
): Promise<void> {
  const deadline = performance.now() + SETTLE_DEADLINE_MS;
  while (!(await done())) {
    const failed = failure();
    if (failed) throw failed;
    if (performance.now() > deadline) throw new Error(`the oracle was not told everything within 20 s`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const failed = failure();
  if (failed) throw failed;
}

/**
 * A kube-apiserver that was restarted answers 503 for some seconds, and its connections break; one that admits objects remembers
 * for a moment that a namespace was going, when it is there again already.
 */
export async function patiently<T>(call: () => Promise<T>, withinMs = 20_000): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const isTransient =
        error instanceof ShardError &&
        (['unavailable', 'timeout', 'internal', 'rateLimited'].includes(error.code) ||
          error.message.includes('it is being terminated'));
      if (!isTransient || performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
