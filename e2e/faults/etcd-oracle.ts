import { GROUP, type ShardAssignment } from '@meshkit/shards/records';
import { Agent, request } from 'undici';
import type { EtcdAccess, EtcdAlone } from '../control-plane/control-plane.ts';
import { Known, type Oracle, type OracleListener, stateOf, until } from './oracle.ts';

const PREFIX = `/registry/${GROUP}/shardassignments/`;
const RETRY_MS = 20;
const START_WITHIN_MS = 30_000;

interface KeyValue {
  key: string;
  value?: string;
  mod_revision: string;
}

interface Stored {
  kvs: KeyValue[];
  revision: bigint;
}

interface WatchAnswer {
  result?: {
    header?: { revision?: string };
    canceled?: boolean;
    compact_revision?: string;
    cancel_reason?: string;
    events?: { type?: 'DELETE'; kv: KeyValue }[];
  };
  error?: unknown;
}

/**
 * On the real plane: a watch of etcd itself (JSON gateway, /v3/watch), below everything that the campaign breaks. etcd is only ever
 * stopped and started with its data, and the watch goes on after the last revision that it was told of; were that revision compacted,
 * etcd says so and the oracle fails. The records of custom resources are JSON there, and a revision is a resourceVersion.
 */
export class EtcdOracle implements Oracle {
  readonly #etcd: EtcdAccess;
  readonly #agent: Agent;
  readonly #listener: OracleListener;
  #stop = new AbortController();
  /** The revision of the newest change; everything up to it was told. */
  #position = 0n;
  #known = new Known();
  #failure: Error | undefined;
  #running: Promise<void> = Promise.resolve();

  private constructor(etcd: EtcdAccess, listener: OracleListener) {
    this.#etcd = etcd;
    this.#listener = listener;
    const { ca, cert, key } = etcd;
    this.#agent = new Agent({ connect: { ca, cert, key }, bodyTimeout: 0, headersTimeout: 10_000 });
  }

  static async start(etcd: EtcdAccess, listener: OracleListener): Promise<Oracle> {
    const oracle = new EtcdOracle(etcd, listener);
    const { kvs, revision } = await oracle.#range();
    if (kvs.length > 0) throw new Error('there are shards already, whose history nobody knows');
    oracle.#position = revision;
    oracle.#running = oracle.#follow();
    return oracle;
  }

  get position(): string {
    return String(this.#position);
  }

  async settled(): Promise<void> {
    await until(
      async () => this.#known.agrees((await this.#range()).kvs.map((kv) => [kv.key, kv.mod_revision])),
      () => this.#failure,
    );
  }

  /** Before the store goes back, when nobody writes any more, the watch ends; another begins before anybody writes again. */
  async aroundRestore(restart: (etcdAlone: EtcdAlone) => Promise<void>): Promise<void> {
    await restart(async (when) => {
      if (when === 'after') return this.#beginAgain();
      await this.settled();
      await this.#end();
    });
  }

  async #beginAgain(): Promise<void> {
    const { kvs, revision } = await this.#rangeSoon();
    this.#listener.restored(String(revision));
    this.#known = new Known();
    for (const kv of kvs.sort((a, b) => Number(BigInt(a.mod_revision) - BigInt(b.mod_revision))))
      this.#tell(kv, false);
    this.#position = revision;
    this.#stop = new AbortController();
    this.#running = this.#follow();
  }

  async stop(): Promise<void> {
    await this.#end();
    await this.#agent.destroy();
  }

  async #end(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted && !this.#failure) {
      try {
        await this.#watch(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof LostHistory) this.#failure = error;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const body = {
      create_request: {
        key: base64(PREFIX),
        range_end: base64(afterPrefix(PREFIX)),
        start_revision: String(this.#position + 1n),
      },
    };
    const answer = await request(`${this.#etcd.url}/v3/watch`, {
      method: 'POST',
      dispatcher: this.#agent,
      body: JSON.stringify(body),
      signal,
    });
    let rest = '';
    answer.body.setEncoding('utf8');
    for await (const chunk of answer.body) {
      rest += chunk as string;
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') this.#take(JSON.parse(line) as WatchAnswer);
    }
  }

  #take({ result, error }: WatchAnswer): void {
    if (error !== undefined) throw new Error(`etcd: ${JSON.stringify(error)}`);
    if (result?.compact_revision !== undefined && result.compact_revision !== '0')
      throw new LostHistory(`the oracle lost history: compacted at ${result.compact_revision}`);
    if (result?.canceled) throw new Error(`etcd ended the watch: ${result.cancel_reason}`);
    for (const { type, kv } of result?.events ?? []) {
      this.#tell(kv, type === 'DELETE');
      this.#position = BigInt(kv.mod_revision);
    }
  }

  #tell({ key, value = '', mod_revision }: KeyValue, deleted: boolean): void {
    const [namespace = '', name = ''] = text(key).slice(PREFIX.length).split('/');
    const state = deleted ? undefined : stateOf(JSON.parse(text(value)) as ShardAssignment);
    this.#known.note(key, deleted ? undefined : mod_revision);
    this.#listener.truth(mod_revision, namespace, name, state);
  }

  /** Of an etcd that is about to answer. */
  async #rangeSoon(): Promise<Stored> {
    const deadline = performance.now() + START_WITHIN_MS;
    for (;;) {
      try {
        return await this.#range();
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async #range(): Promise<Stored> {
    const answer = await request(`${this.#etcd.url}/v3/kv/range`, {
      method: 'POST',
      dispatcher: this.#agent,
      body: JSON.stringify({ key: base64(PREFIX), range_end: base64(afterPrefix(PREFIX)) }),
      signal: AbortSignal.timeout(10_000),
    });
    const { kvs = [], header } = (await answer.body.json()) as {
      kvs?: KeyValue[];
      header: { revision: string };
    };
    return { kvs, revision: BigInt(header.revision) };
  }
}

class LostHistory extends Error {}

function base64(value: string): string {
  return Buffer.from(value).toString('base64');
}

function text(value: string): string {
  return Buffer.from(value, 'base64').toString();
}

/** The first key that does not begin with the prefix. */
function afterPrefix(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
