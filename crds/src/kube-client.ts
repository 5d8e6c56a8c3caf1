import type { KubeObject } from '@meshkit/shards/records';
import type { Resource } from './resource.ts';

/** Every call ends by its deadline or its signal, whichever comes first. */
export interface CallOptions {
  signal?: AbortSignal;
  /** Milliseconds for the whole call, credentials included. Default 10,000. */
  timeoutMs?: number;
}

/** `namespace` absent on a namespaced resource: the namespace of the kubeconfig's context. */
export interface ObjectKey {
  namespace?: string;
  name: string;
}

/** `namespace` absent: all namespaces. */
export interface Selection {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
}

export interface ListOptions extends CallOptions, Selection {
  limit?: number;
  continue?: string;
}

export interface ListPage<T> {
  items: T[];
  resourceVersion: string;
  /** Present while more pages follow. */
  continue?: string;
}

export interface PatchOptions extends CallOptions {
  /** `merge` (default): RFC 7386. `apply`: server-side apply; needs `fieldManager`. */
  type?: 'merge' | 'apply';
  fieldManager?: string;
  force?: boolean;
  /** `status` patches the subresource. */
  subresource?: 'status';
}

export interface DeleteOptions extends CallOptions {
  /** Preconditions: the server answers 409 when the object is another one, or has changed. */
  uid?: string;
  resourceVersion?: string;
}

export interface RawOptions extends CallOptions {
  query?: Record<string, string | number | boolean | undefined>;
  body?: unknown;
  contentType?: string;
}

export interface WatchOptions extends Selection {
  /** Events after this version; never empty. */
  resourceVersion: string;
  /** The server ends the watch after this long. */
  timeoutSeconds: number;
  signal: AbortSignal;
  /** No byte for this long, and the peer counts as dead. Bookmarks come about once a minute. Default 150,000. */
  idleTimeoutMs?: number;
  /** Called once the server has accepted the watch. */
  onOpen?: () => void;
}

export type WatchEvent<T> =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T }
  | { type: 'BOOKMARK'; resourceVersion: string };

/** What the client needs of a kubeconfig: where, and how to prove who it is. */
export interface KubeConnection {
  /** `https://host:port`, perhaps with a path. */
  readonly server: string;
  /** Of the context; `default` when it names none. */
  readonly namespace: string;
  close(): Promise<void>;
}

const todo = (): never => {
  throw new Error('not written yet');
};

/**
 * A typed client of one Kubernetes API server over kept-alive connections.
 * Errors are ShardErrors (see kube-error.ts) that say what failed, at which server, and what to do.
 */
export class KubeClient {
  readonly server: string;
  readonly namespace: string;

  constructor(connection: KubeConnection) {
    this.server = connection.server;
    this.namespace = connection.namespace;
  }

  async get<T extends KubeObject>(_resource: Resource<T>, _key: ObjectKey, _o?: CallOptions): Promise<T> {
    return todo();
  }

  /** One page. Never carries a resourceVersion: the answer is the newest state, by quorum read. */
  async list<T extends KubeObject>(_resource: Resource<T>, _o?: ListOptions): Promise<ListPage<T>> {
    return todo();
  }

  /** All pages of one snapshot, 500 objects each; the deadline holds for each page. */
  async listAll<T extends KubeObject>(
    _resource: Resource<T>,
    _o?: Selection & CallOptions,
  ): Promise<{ items: T[]; resourceVersion: string }> {
    return todo();
  }

  async create<T extends KubeObject>(
    _resource: Resource<T>,
    _object: T,
    _o?: CallOptions & { dryRun?: boolean },
  ): Promise<T> {
    return todo();
  }

  /** PUT; an object that carries its resourceVersion is refused with `conflict` when it is stale. */
  async update<T extends KubeObject>(_resource: Resource<T>, _object: T, _o?: CallOptions): Promise<T> {
    return todo();
  }

  async updateStatus<T extends KubeObject>(_resource: Resource<T>, _object: T, _o?: CallOptions): Promise<T> {
    return todo();
  }

  async patch<T extends KubeObject>(
    _resource: Resource<T>,
    _key: ObjectKey,
    _body: object,
    _o?: PatchOptions,
  ): Promise<T> {
    return todo();
  }

  async delete<T extends KubeObject>(
    _resource: Resource<T>,
    _key: ObjectKey,
    _o?: DeleteOptions,
  ): Promise<void> {
    return todo();
  }

  /** Everything else: reviews, discovery, `/version`, token requests. `path` starts with `/`. */
  async raw(_method: string, _path: string, _o?: RawOptions): Promise<unknown> {
    return todo();
  }

  /** Ends when the server ends the watch; throws on everything else, an in-stream ERROR event included. */
  watch<T extends KubeObject>(_resource: Resource<T>, _o: WatchOptions): AsyncIterable<WatchEvent<T>> {
    return todo();
  }

  /** Ends all connections, open watches too. */
  async close(): Promise<void> {
    return todo();
  }
}
