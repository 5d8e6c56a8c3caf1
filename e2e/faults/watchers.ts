import { setTimeout as sleep } from 'node:timers/promises';
import type { Backend } from '@meshkit/client/backend';
import { GrpcBackend } from '@meshkit/client/grpc-backend';
import { RestBackend } from '@meshkit/client/rest-backend';
import { ShardClient } from '@meshkit/client/shard-client';
import type { WatchEvent } from '@meshkit/client/shard-tracker';
import { machineClock } from '@meshkit/client/wait';
import type { WatchMessage } from '@meshkit/client/watch-message';
import type { Phase } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { openResumeToken } from '@meshkit/shards/resume-token';
import type { ShardView } from '@meshkit/shards/shard-view';
import { Fold } from './check-states.ts';
import type { HistoryEntry, Recorder, ShardState, ToldEntry, WatcherInfo } from './history.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** Where an API server is: the ports of REST and gRPC. */
export interface Place {
  sse: number;
  grpc: number;
}

export interface WatcherOptions {
  info: WatcherInfo;
  namespace: string;
  /** The two API servers. */
  places: readonly [Place, Place];
  ca: string;
  token: string;
  /** Which of them first. */
  first: number;
  /** Milliseconds that it takes over each event. */
  slowMs: number;
  random: () => number;
  recorder: Recorder;
}

/**
 * A stream that is silent for longer counts as lost; far below what is usual, so that half-open ones are noticed in a run, but
 * more than the 3 s that an API server waits for a journal that is behind.
 */
const SILENCE_MS = 4_000;
const RETRY_MS = 40;

/** What client watchers and wire watchers share: their own way to either API server, and what they were told. */
export abstract class Watcher {
  readonly info: WatcherInfo;
  readonly fold: Fold;
  protected readonly options: WatcherOptions;
  protected readonly proxy: TcpProxy;
  protected readonly stopping = new AbortController();
  protected token: string | undefined;
  #lost = false;
  #synced = false;
  #running: Promise<void> = Promise.resolve();

  protected constructor(options: WatcherOptions, proxy: TcpProxy) {
    this.options = options;
    this.info = options.info;
    this.fold = new Fold(options.info.kind);
    this.proxy = proxy;
  }

  static async start(options: WatcherOptions): Promise<Watcher> {
    const { transport, kind } = options.info;
    const place = options.places[options.first === 0 ? 0 : 1];
    const proxy = await TcpProxy.start(place[transport]);
    const watcher: Watcher =
      kind === 'client' ? new ClientWatcher(options, proxy) : new WireWatcher(options, proxy);
    watcher.#running = watcher.follow();
    return watcher;
  }

  /** Its connections break. */
  cut(): void {
    this.proxy.reset();
  }

  /** They break, and the next one leads to the other API server. */
  switch(): void {
    const { places, info } = this.options;
    const [one, other] = places;
    this.proxy.retarget(
      this.proxy.target === one[info.transport] ? other[info.transport] : one[info.transport],
    );
    this.proxy.reset();
  }

  /** They stay open, and carry nothing; after `forMs` they break. */
  async halfOpen(forMs: number): Promise<void> {
    this.proxy.freeze();
    await sleep(forMs);
    this.proxy.thaw();
  }

  /** They break, and no other comes about for a while. */
  async hold(forMs: number): Promise<void> {
    this.proxy.refuse(true);
    this.proxy.reset();
    await sleep(forMs);
    this.proxy.refuse(false);
  }

  /** The program ends, and begins again with its last token. */
  abstract restart(): void;

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.#running;
    await this.proxy.close();
  }

  /** Until `stop`. */
  protected abstract follow(): Promise<void>;

  protected get filter(): ShardFilter {
    const { owners, phases, search } = this.info;
    return { namespace: this.options.namespace, owners, phases: phases as Phase[] | undefined, search };
  }

  /** The history that its token is of. */
  protected get lineage(): string | undefined {
    return this.token === undefined ? undefined : openResumeToken(this.filter, this.token).lineage;
  }

  protected async pace(): Promise<void> {
    if (this.options.slowMs > 0) await sleep(this.options.slowMs);
  }

  protected record(entry: HistoryEntry): void {
    this.fold.take(entry);
    this.options.recorder.add(entry);
  }

  protected lost(why: string): void {
    this.#lost = true;
    this.record({ kind: 'lost', watcher: this.info.id, why });
  }

  /** A stream says something. */
  protected heard(type: string): void {
    if (this.#lost && this.#synced && type !== 'RESET' && type !== 'reset')
      this.record({ kind: 'resumed', watcher: this.info.id });
    this.#lost = false;
    if (type === 'SYNCED' || type === 'snapshot-end') this.#synced = true;
  }
}

/** Follows as any program would, through the client package. */
class ClientWatcher extends Watcher {
  #session = new AbortController();

  restart(): void {
    if (this.info.restarts) this.#session.abort();
    else this.cut();
  }

  protected async follow(): Promise<void> {
    const { ca, token, random } = this.options;
    const { transport, allowCoalescing } = this.info;
    while (!this.stopping.signal.aborted) {
      const client = new ShardClient({ server: this.proxy.url, transport, ca, token, random });
      this.#session = new AbortController();
      const signal = AbortSignal.any([this.#session.signal, this.stopping.signal]);
      const onDisconnect = (error: Error) => this.lost(error.message.slice(0, 100));
      const { token: resumeToken } = this;
      const options = { signal, resumeToken, allowCoalescing, silenceMs: SILENCE_MS, onDisconnect };
      try {
        for await (const event of client.watch(this.filter, options)) {
          this.#take(event);
          await this.pace();
        }
      } catch (error) {
        // Nothing that happens here is a reason to give up on a watcher.
        this.record({ kind: 'reset', watcher: this.info.id, reason: `threw ${String(error)}` });
        this.token = undefined;
      }
      await client.close();
      if (this.stopping.signal.aborted) return;
      this.record({ kind: 'restarted', watcher: this.info.id });
      this.lost('program ended');
    }
  }

  #take(event: WatchEvent): void {
    const { id: watcher } = this.info;
    const { lineage } = this;
    this.heard(event.type);
    this.token = event.token;
    if (event.type === 'RESET') this.record({ kind: 'reset', watcher, reason: event.reason, lineage });
    else if (event.type === 'SYNCED' || event.type === 'BOOKMARK')
      this.record({ kind: 'mark', watcher, type: event.type, position: event.position });
    else {
      const { type, current, previous, cause, position, coalesced, source } = event;
      this.record(told(watcher, { type, current, previous, cause, position, coalesced, source }));
    }
  }
}

/** Reads what is said on the wire, and keeps nothing but its last token. */
class WireWatcher extends Watcher {
  #snapshot = false;

  restart(): void {
    this.cut();
  }

  protected async follow(): Promise<void> {
    const { ca } = this.options;
    const backend: Backend =
      this.info.transport === 'grpc'
        ? new GrpcBackend({ server: this.proxy.url, ca })
        : new RestBackend({ url: this.proxy.url, ca, userAgent: 'wire', clock: machineClock });
    while (!this.stopping.signal.aborted) {
      try {
        await this.#stream(backend);
      } catch (error) {
        if (this.stopping.signal.aborted) break;
        this.lost(String(error).slice(0, 100));
        backend.suspect?.();
        await sleep(RETRY_MS);
      }
    }
    await backend.close();
  }

  async #stream(backend: Backend): Promise<void> {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(new Error('silent for too long')), SILENCE_MS);
    const { token: bearer } = this.options;
    const signal = AbortSignal.any([this.stopping.signal, silence.signal]);
    this.#snapshot = false;
    if (this.token !== undefined) {
      const { position } = openResumeToken(this.filter, this.token);
      this.record({ kind: 'open', watcher: this.info.id, position });
    }
    try {
      const request = { filter: this.filter, resumeToken: this.token, bearer, signal };
      for await (const message of backend.watch(request)) {
        timer.refresh();
        if (message.type === 'alive') continue;
        this.#take(message);
        await this.pace();
      }
    } finally {
      clearTimeout(timer);
    }
    throw new Error('the stream ended');
  }

  #take(message: WatchMessage): void {
    const { id: watcher } = this.info;
    const { lineage } = this;
    this.heard(message.type);
    this.token = message.token;
    switch (message.type) {
      case 'snapshot-begin':
        this.#snapshot = true;
        this.record({ kind: 'begin', watcher, position: message.position, reason: message.reason });
        return;
      case 'snapshot-end':
        this.#snapshot = false;
        this.record({ kind: 'mark', watcher, type: 'SYNCED', position: message.position });
        return;
      case 'bookmark':
        this.record({ kind: 'mark', watcher, type: 'BOOKMARK', position: message.position });
        return;
      case 'reset':
        this.record({ kind: 'reset', watcher, reason: message.reason, lineage });
        return;
      case 'shard': {
        const entry = told(watcher, { ...message, type: message.event });
        const unsettled = openResumeToken(this.filter, message.token).beyond !== undefined;
        this.record(this.#snapshot ? { ...entry, row: true } : { ...entry, unsettled });
        return;
      }
      case 'goaway':
        return;
    }
  }
}

function told(
  watcher: string,
  event: {
    type: ToldEntry['type'];
    current?: ShardView;
    previous?: ShardView;
    cause?: string;
    position: string;
    coalesced?: number;
    source?: string;
  },
): ToldEntry {
  const { type, current, previous, cause, position, coalesced, source } = event;
  const view = (current ?? previous)!;
  return {
    kind: 'told',
    watcher,
    type,
    cause,
    position,
    key: `${view.namespace}/${view.name}`,
    uid: view.uid,
    state: current && stateOf(current),
    coalesced,
    source,
  };
}

function stateOf({ uid, generation, version, epoch, owner, phase }: ShardView): ShardState {
  return { uid, generation, version, epoch, owner, phase };
}
