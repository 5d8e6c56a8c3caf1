import { type Arrivals, type Positions, positionsOf } from './positions.ts';
import { RawHttp2 } from './raw-http2.ts';

/** How many streams share a connection; below what either server allows on one. */
const STREAMS_EACH = 100;
/** A slow reader takes this much and no more. */
const SLOW_WINDOW = 16_384;
const OPEN_WITHIN_MS = 60_000;

export interface WatchTarget {
  kind: Positions;
  /** Origin; the paths are of the streams. */
  url: string;
  ca: string;
}

export interface StreamSpec {
  /** `:path` with its query. */
  path: string;
  /** Base64; present for gRPC. */
  body?: string;
  headers: Record<string, string>;
}

export interface OpenWatches {
  target: WatchTarget;
  /** Each with how many streams of it. */
  streams: { spec: StreamSpec; count: number }[];
  slow?: boolean;
}

/** Streams of one kind, and when they got what. */
export class WatchLoad {
  readonly #arrivals: Arrivals;
  readonly #connections: RawHttp2[] = [];
  readonly #ended: string[] = [];
  #open = 0;

  constructor(arrivals: Arrivals) {
    this.#arrivals = arrivals;
  }

  get state(): { open: number; ended: string[] } {
    return { open: this.#open, ended: this.#ended.slice(0, 5) };
  }

  /** Resolves once every stream is live: its first message is there (kube-apiserver's: its headers). */
  async open({ target, streams, slow }: OpenWatches): Promise<void> {
    const specs = streams.flatMap(({ spec, count }) => Array.from({ length: count }, () => spec));
    const live: Promise<void>[] = [];
    for (let from = 0; from < specs.length; from += STREAMS_EACH) {
      live.push(this.#connect(target, specs.slice(from, from + STREAMS_EACH), slow ?? false));
    }
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () =>
        reject(
          new Error(`${this.#open} of ${specs.length} streams opened within ${OPEN_WITHIN_MS / 1_000} s`),
        ),
      OPEN_WITHIN_MS,
    );
    try {
      await Promise.race([Promise.all(live), promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    for (const connection of this.#connections.splice(0)) connection.destroy();
  }

  async #connect(target: WatchTarget, specs: readonly StreamSpec[], slow: boolean): Promise<void> {
    const connection = await RawHttp2.connect(target.url, target.ca, slow ? SLOW_WINDOW : undefined);
    this.#connections.push(connection);
    await Promise.all(specs.map((spec) => this.#watch(connection, target.kind, spec, slow)));
  }

  #watch(
    connection: RawHttp2,
    kind: Positions,
    { path, body, headers }: StreamSpec,
    slow: boolean,
  ): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const read = positionsOf(kind);
    let refused = '';
    let ok = true;
    let first = true;
    const live = (): void => {
      if (!first) return;
      first = false;
      this.#open += 1;
      resolve();
    };
    const pseudo = {
      ':method': body ? 'POST' : 'GET',
      ':scheme': 'https',
      ':authority': 'bench',
      ':path': path,
    };
    connection.request(
      { ...pseudo, ...headers },
      {
        began: (status) => {
          ok &&= status === 200 || !first;
          if (ok && kind === 'kube') live();
        },
        data: (payload, at) => {
          if (!ok) {
            refused += payload.toString('utf8', 0, 500);
            return;
          }
          live();
          if (!slow) read(payload, (position) => this.#arrivals.add(position, at));
        },
        ended: (why) => {
          if (!first) {
            this.#open -= 1;
            if (!slow) this.#ended.push(why);
          }
          reject(new Error(`a stream ended before it was live: ${why} ${refused}`));
        },
      },
      body === undefined ? undefined : Buffer.from(body, 'base64'),
    );
    return promise;
  }
}
