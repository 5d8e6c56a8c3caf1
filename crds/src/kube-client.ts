import type { IncomingMessage } from 'node:http';
import type { KubeObject } from '@meshkit/shards/records';
import { Deadline } from './deadline.ts';
import type { KubeConnection, KubeRequest } from './kube-connection.ts';
import {
  type CallSite,
  connectionError,
  deadlineError,
  protocolError,
  silenceError,
  statusError,
} from './kube-error.ts';
import { apiVersionOf, type Resource, resourcePath } from './resource.ts';
import { type WatchEvent, watchEvents } from './watch-stream.ts';

const CALL_TIMEOUT_MS = 10_000;
const PAGE_SIZE = 500;
/** Above two bookmark intervals of kube-apiserver (60 to 75 s each). */
const IDLE_TIMEOUT_MS = 150_000;
const MAX_ANSWER_BYTES = 128 << 20;
const MAX_ERROR_BYTES = 64 << 10;

const METADATA_LIST = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json';

const CONTENT_TYPES = {
  merge: 'application/merge-patch+json',
  apply: 'application/apply-patch+yaml',
} as const;

/** Every call ends by its deadline or its signal (then with the signal's reason), whichever comes first. */
export interface CallOptions {
  signal?: AbortSignal;
  /** Milliseconds from the call to the last byte of the answer. Default 10,000. */
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
  /** Items have no more than their metadata; a server that does not know how answers with all of them. */
  metadataOnly?: boolean;
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
  /** Apply only: takes over fields that another manager owns. */
  force?: boolean;
  subresource?: 'status';
}

export interface DeleteOptions extends CallOptions {
  /** Preconditions: the server answers 409 when the object is another one, or has changed. */
  uid?: string;
  resourceVersion?: string;
}

export interface RawOptions extends CallOptions {
  query?: Query;
  /** An object is sent as JSON, a string as it is. */
  body?: unknown;
  /** Default `application/json`. */
  contentType?: string;
}

export interface WatchOptions extends Selection {
  /** Events after this version; never empty. */
  resourceVersion: string;
  /** The server ends the watch after this long. */
  timeoutSeconds: number;
  signal: AbortSignal;
  /** No byte for this long while we wait for one, and the peer counts as dead. Default 150,000. */
  idleTimeoutMs?: number;
  /** Milliseconds until the server must have accepted the watch. Default 10,000. */
  timeoutMs?: number;
  /** Called once the server has accepted the watch. */
  onOpen?: () => void;
}

type Query = Record<string, string | number | boolean | undefined>;

/**
 * A typed client of one Kubernetes API server over kept-alive connections.
 * Errors are ShardErrors (see kube-error.ts) that say what failed, at which server, and what to do.
 */
export class KubeClient {
  /** `https://host:port`. */
  readonly server: string;
  /** Of the kubeconfig's context, else `default`. */
  readonly namespace: string;
  readonly #connection: KubeConnection;

  constructor(connection: KubeConnection) {
    this.server = connection.server;
    this.namespace = connection.namespace;
    this.#connection = connection;
  }

  async get<T extends KubeObject>(resource: Resource<T>, key: ObjectKey, o: CallOptions = {}): Promise<T> {
    return this.#object(resource, this.#key(resource, key), { verb: 'get', method: 'GET' }, o);
  }

  /** One page. Never carries a resourceVersion: the answer is the newest state, by quorum read. */
  async list<T extends KubeObject>(resource: Resource<T>, o: ListOptions = {}): Promise<ListPage<T>> {
    const { labelSelector, fieldSelector, limit, continue: token, metadataOnly } = o;
    const answer = (await this.#call(
      this.#site('list', resource, o),
      {
        method: 'GET',
        path: resourcePath(resource, o) + query({ labelSelector, fieldSelector, limit, continue: token }),
        accept: metadataOnly ? METADATA_LIST : undefined,
      },
      o,
    )) as { items?: T[] | null; metadata?: { resourceVersion?: string; continue?: string } };
    const items = answer.items ?? [];
    // The items of a built-in resource's list come without them.
    for (const item of metadataOnly ? [] : items) {
      item.apiVersion ??= apiVersionOf(resource);
      item.kind ??= resource.kind;
    }
    return {
      items,
      resourceVersion: answer.metadata?.resourceVersion ?? '',
      continue: answer.metadata?.continue || undefined,
    };
  }

  /** All pages of one snapshot, 500 objects each; the deadline holds for each page. */
  async listAll<T extends KubeObject>(
    resource: Resource<T>,
    o: Selection & CallOptions & { metadataOnly?: boolean } = {},
  ): Promise<{ items: T[]; resourceVersion: string }> {
    return listAll(this, resource, o);
  }

  async create<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    o: CallOptions & { dryRun?: boolean } = {},
  ): Promise<T> {
    const { namespace, name } = this.#key(resource, object.metadata);
    return this.#call(
      this.#site('create', resource, { namespace, name }),
      {
        method: 'POST',
        path: resourcePath(resource, { namespace }) + query({ dryRun: o.dryRun ? 'All' : undefined }),
        body: JSON.stringify(object),
      },
      o,
    ) as Promise<T>;
  }

  /** PUT; an object that carries its resourceVersion is refused with `conflict` when it is stale. */
  async update<T extends KubeObject>(resource: Resource<T>, object: T, o: CallOptions = {}): Promise<T> {
    const key = this.#key(resource, object.metadata);
    return this.#object(resource, key, { verb: 'update', method: 'PUT', body: object }, o);
  }

  /** PUT of the status alone; the object's other fields are ignored by the server. */
  async updateStatus<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    o: CallOptions = {},
  ): Promise<T> {
    const key = this.#key(resource, object.metadata);
    const call = { verb: 'update the status of', method: 'PUT', suffix: '/status', body: object };
    return this.#object(resource, key, call, o);
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    body: object,
    o: PatchOptions = {},
  ): Promise<T> {
    const { type = 'merge', fieldManager, force, subresource } = o;
    return this.#object(
      resource,
      this.#key(resource, key),
      {
        verb: type === 'apply' ? 'apply' : 'patch',
        method: 'PATCH',
        suffix: (subresource ? `/${subresource}` : '') + query({ fieldManager, force }),
        body,
        contentType: CONTENT_TYPES[type],
      },
      o,
    );
  }

  /** Resolves when the server has accepted; finalizers may keep the object for longer. */
  async delete<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    o: DeleteOptions = {},
  ): Promise<void> {
    const { uid, resourceVersion } = o;
    const preconditions =
      uid === undefined && resourceVersion === undefined ? undefined : { uid, resourceVersion };
    const body = preconditions && { apiVersion: 'v1', kind: 'DeleteOptions', preconditions };
    await this.#object(resource, this.#key(resource, key), { verb: 'delete', method: 'DELETE', body }, o);
  }

  /**
   * Everything else: reviews, discovery, `/version`, token requests. `path` starts with `/`.
   * Resolves with parsed JSON, or with the text of an answer that is none (`/healthz`).
   */
  async raw(method: string, path: string, o: RawOptions = {}): Promise<unknown> {
    const body = o.body === undefined || typeof o.body === 'string' ? o.body : JSON.stringify(o.body);
    return this.#call(
      { what: `${method} ${path}`, server: this.server },
      { method, path: path + query(o.query ?? {}), body, contentType: o.contentType },
      o,
    );
  }

  /** Ends when the server ends the watch; throws on everything else, an in-stream ERROR event included. */
  async *watch<T extends KubeObject>(
    resource: Resource<T>,
    o: WatchOptions,
  ): AsyncGenerator<WatchEvent<T>, void> {
    const { labelSelector, fieldSelector, resourceVersion, timeoutSeconds } = o;
    const call = this.#site('watch', resource, o);
    const timeoutMs = o.timeoutMs ?? CALL_TIMEOUT_MS;
    using deadline = new Deadline(o.signal, timeoutMs, () => deadlineError(call, timeoutMs));
    const path =
      resourcePath(resource, o) +
      query({
        watch: true,
        allowWatchBookmarks: true,
        labelSelector,
        fieldSelector,
        resourceVersion,
        timeoutSeconds,
      });
    const { signal } = deadline;
    const answer = await this.#send(call, { method: 'GET', path, signal, stream: true });
    deadline.disarm();
    try {
      o.onOpen?.();
      const idleMs = o.idleTimeoutMs ?? IDLE_TIMEOUT_MS;
      const bytes = this.#bytes(call, answer, signal);
      yield* watchEvents<T>(call, bytes, idleMs, () => deadline.abort(silenceError(call, idleMs)));
    } finally {
      answer.destroy();
    }
  }

  /** Ends all connections, open watches too. */
  async close(): Promise<void> {
    await this.#connection.close();
  }

  #key(resource: Resource, key: ObjectKey): ObjectKey {
    if (!resource.namespaced) return { name: key.name };
    return { namespace: key.namespace ?? this.namespace, name: key.name };
  }

  #site(verb: string, resource: Resource, key: { namespace?: string; name?: string }): CallSite {
    const type = resource.group === '' ? resource.plural : `${resource.plural}.${resource.group}`;
    const name = key.name === undefined ? '' : ` ${key.name}`;
    const scope = !resource.namespaced
      ? ''
      : key.namespace === undefined
        ? ' in all namespaces'
        : ` in namespace ${key.namespace}`;
    return { what: `${verb} ${type}${name}${scope}`, server: this.server };
  }

  #object<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    call: { verb: string; method: string; suffix?: string; body?: object; contentType?: string },
    o: CallOptions,
  ): Promise<T> {
    return this.#call(
      this.#site(call.verb, resource, key),
      {
        method: call.method,
        path: resourcePath(resource, key) + (call.suffix ?? ''),
        body: call.body && JSON.stringify(call.body),
        contentType: call.contentType,
      },
      o,
    ) as Promise<T>;
  }

  async #call(
    call: CallSite,
    request: { method: string; path: string; body?: string; contentType?: string; accept?: string },
    o: CallOptions,
  ): Promise<unknown> {
    const timeoutMs = o.timeoutMs ?? CALL_TIMEOUT_MS;
    using deadline = new Deadline(o.signal, timeoutMs, () => deadlineError(call, timeoutMs));
    const { signal } = deadline;
    const { contentType = 'application/json', accept, ...rest } = request;
    const headers = {
      ...(rest.body === undefined ? {} : { 'content-type': contentType }),
      ...(accept === undefined ? {} : { accept }),
    };
    const answer = await this.#send(call, { ...rest, headers, signal });
    const text = await this.#text(call, answer, MAX_ANSWER_BYTES, signal);
    if (!answer.headers['content-type']?.includes('json')) return text;
    try {
      return JSON.parse(text);
    } catch (error) {
      throw protocolError(call, 'the answer is not valid JSON', error);
    }
  }

  /** Resolves with a 2xx answer whose body is still to be read; every other outcome is a ShardError. */
  async #send(call: CallSite, request: KubeRequest): Promise<IncomingMessage> {
    let answer: IncomingMessage;
    try {
      answer = await this.#connection.send(request);
    } catch (error) {
      if (request.signal.aborted) throw request.signal.reason;
      throw connectionError(call, error);
    }
    const status = answer.statusCode ?? 0;
    if (status >= 200 && status < 300) return answer;
    const body = await this.#text(call, answer, MAX_ERROR_BYTES, request.signal);
    throw statusError(call, { status, body, retryAfter: answer.headers['retry-after'] });
  }

  async #text(call: CallSite, answer: IncomingMessage, limit: number, signal: AbortSignal): Promise<string> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.#bytes(call, answer, signal)) {
      size += chunk.length;
      if (size > limit) throw protocolError(call, `the answer is larger than ${limit} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString();
  }

  /** The body; an answer cut short is an error, and an abort throws its reason. */
  async *#bytes(call: CallSite, answer: IncomingMessage, signal: AbortSignal): AsyncGenerator<Buffer, void> {
    try {
      yield* answer as AsyncIterable<Buffer>;
    } catch (error) {
      throw signal.aborted ? signal.reason : connectionError(call, error);
    }
  }
}

/** All pages of one snapshot: the continue tokens hold every page at the first one's version. */
export async function listAll<T extends KubeObject>(
  client: Pick<KubeClient, 'list'>,
  resource: Resource<T>,
  o: Selection & CallOptions & { metadataOnly?: boolean } = {},
): Promise<{ items: T[]; resourceVersion: string }> {
  const first = await client.list(resource, { ...o, limit: PAGE_SIZE });
  const { items, resourceVersion } = first;
  for (let token = first.continue; token !== undefined; ) {
    const page = await client.list(resource, { ...o, limit: PAGE_SIZE, continue: token });
    for (const item of page.items) items.push(item);
    token = page.continue;
  }
  return { items, resourceVersion };
}

/** `?a=1&b=2`, without what is undefined; empty when nothing is left. */
function query(values: Query): string {
  const given = Object.entries(values).filter((entry): entry is [string, string | number | boolean] => {
    return entry[1] !== undefined;
  });
  return given.length === 0
    ? ''
    : `?${new URLSearchParams(given.map(([key, value]) => [key, String(value)]))}`;
}
