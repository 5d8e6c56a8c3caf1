import type { ServerHttp2Stream } from 'node:http2';
import type { ShardClient } from '@meshkit/client/shard-client';
import type { WatchOptions } from '@meshkit/client/watch';
import type { Request, ScriptedServer } from './server.ts';

export const view = (name: string, version: number, fields = {}) => ({
  namespace: 'payments',
  name: `orders.${name}`,
  uid: `uid-${name}`,
  shardSet: 'orders',
  shardId: name,
  phase: 'Active',
  state: 'Active',
  owner: `node-${version}`,
  ownerEndpoint: `https://node-${version}:1`,
  epoch: version,
  version,
  generation: 1,
  observedGeneration: 1,
  capacity: 1,
  ...fields,
});

/** One stream as a test writes it. */
export class Script {
  readonly #stream: ServerHttp2Stream;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
    stream.respond({ ':status': 200, 'content-type': 'text/event-stream' });
  }

  say(event: string, data: object, id?: string): this {
    this.#stream.write(`event: ${event}\n${id ? `id: ${id}\n` : ''}data: ${JSON.stringify(data)}\n\n`);
    return this;
  }

  list(position: number, ...shards: object[]): this {
    const at = { position: `${position}` };
    this.say('snapshot-begin', { ...at, lineage: 'l' }, `s${position}`);
    for (const current of shards) this.say('shard', { ...at, type: 'ADDED', current }, `s${position}`);
    return this.say('snapshot-end', at, `t${position}`);
  }

  change(position: number, type: string, current?: object, previous?: object): this {
    return this.say('shard', { type, position: `${position}`, current, previous }, `t${position}`);
  }

  raw(text: string): this {
    this.#stream.write(text);
    return this;
  }

  end(): void {
    this.#stream.end();
  }

  /** Once what was written is out. */
  cut(): void {
    setTimeout(() => this.#stream.session?.destroy(), 20);
  }
}

export type StreamScript = (script: Script, request: Request) => void;

/** One script for each stream in turn; the last one stays for all that follow. */
export function playOn(server: ScriptedServer, ...scripts: StreamScript[]): void {
  server.answer = (request) => {
    const script = scripts.length > 1 ? scripts.shift() : scripts[0];
    script?.(new Script(request.stream), request);
  };
}

/** Type, id and version of the first `count` events; BOOKMARK, SYNCED and RESET by their type alone. */
export async function eventsOf(client: ShardClient, count: number, options: WatchOptions): Promise<string[]> {
  const events: string[] = [];
  for await (const event of client.watch({ shardSet: 'orders' }, options)) {
    const shard = 'previous' in event ? (event.current ?? event.previous) : undefined;
    events.push(shard ? `${event.type} ${shard.shardId}@${shard.version}` : event.type);
    if (events.length === count) break;
  }
  return events;
}
