import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import { LEASES, type Lease, type Resource } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import {
  API_VERSION,
  type KubeObject,
  RELEASED_ANNOTATION,
  type ShardAssignment,
  type ShardAssignmentStatus,
} from '@meshkit/shards/records';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type AgentClient, NodeAgent, type NodeAgentOptions } from './agent.ts';

type Event = { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: ShardAssignment };

/** kube-apiserver as the agent of node `a` sees it: its Lease, and the shards that name it as owner. */
class Cluster {
  readonly namespace = 'shop';
  /** Leases cannot be written. */
  refusesLeases = false;
  /** Open watches are told nothing more, as over a connection that died silently. */
  deaf = false;
  /** So many releases fail. */
  refusedReleases = 0;
  readonly releases: string[] = [];
  readonly created: string[] = [];
  #lease: Lease | undefined;
  #version = 1;
  readonly #shards = new Map<string, ShardAssignment>();
  readonly #watches = new Set<(event: Event) => void>();

  /** The operator's write. */
  put(name: string, status: Pick<ShardAssignmentStatus, 'phase' | 'owner' | 'epoch'>): void {
    const before = this.#shards.get(name);
    this.#version += 1;
    const object: ShardAssignment = {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { namespace: this.namespace, name, uid: name, resourceVersion: String(this.#version) },
      spec: { shardSet: 'orders', shardId: name.split('.')[1] as string },
      status: { version: this.#version, ...status },
    };
    this.#shards.set(name, object);
    const [was, is] = [before?.status?.owner === 'a', status.owner === 'a'];
    if (this.deaf || (!was && !is)) return;
    const type = was && is ? 'MODIFIED' : is ? 'ADDED' : 'DELETED';
    for (const tell of this.#watches) tell({ type, object });
  }

  async get(): Promise<KubeObject> {
    if (!this.#lease) throw new ShardError('notFound', 'no Lease');
    return this.#lease;
  }

  async create(resource: Resource, object: KubeObject): Promise<KubeObject> {
    if (resource === LEASES) return this.update(resource, object);
    if (this.created.includes(object.metadata.name)) throw new ShardError('conflict', 'it exists');
    this.created.push(object.metadata.name);
    return object;
  }

  async update(_: Resource, lease: KubeObject): Promise<KubeObject> {
    if (this.refusesLeases) throw new ShardError('unavailable', 'refused');
    this.#lease = lease as Lease;
    return lease;
  }

  async patch(
    _: Resource,
    { name }: { name: string },
    body: { metadata: { annotations: Record<string, string> } },
  ): Promise<void> {
    if (this.refusedReleases-- > 0) throw new ShardError('unavailable', 'refused');
    this.releases.push(`${name} ${body.metadata.annotations[RELEASED_ANNOTATION]}`);
  }

  async list() {
    const items = [...this.#shards.values()].filter(({ status }) => status?.owner === 'a');
    return { items, resourceVersion: String(this.#version) };
  }

  async *watch(_: Resource, { signal, onOpen }: { signal: AbortSignal; onOpen?: () => void }) {
    const queue: Event[] = [];
    let wake: () => void = () => undefined;
    const tell = (event: Event) => {
      queue.push(event);
      wake();
    };
    this.#watches.add(tell);
    signal.addEventListener('abort', () => wake(), { once: true });
    onOpen?.();
    try {
      for (;;) {
        signal.throwIfAborted();
        const event = queue.shift();
        if (event) yield event;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      this.#watches.delete(tell);
    }
  }

  /** The fake forgets the types of what it stores. */
  client(): AgentClient {
    return this as unknown as AgentClient;
  }
}

let clock: ManualClock;
let cluster: Cluster;
let stop: AbortController;
let ended: Promise<void>;
let told: string[];

beforeEach(() => {
  clock = new ManualClock();
  cluster = new Cluster();
  stop = new AbortController();
  told = [];
});

afterEach(async () => {
  stop.abort();
  await ended;
});

/** With a Lease of 10 s: renewed every 3.3 s, and not to be relied on after 8 s. */
async function start(options: Partial<NodeAgentOptions> = {}): Promise<NodeAgent> {
  const agent = new NodeAgent({
    client: cluster.client(),
    node: 'a',
    leaseDurationSeconds: 10,
    onGrant: ({ name, epoch }) => told.push(`granted ${name} ${epoch}`),
    onRevoke: ({ name, epoch }, why) => told.push(`${why} ${name} ${epoch}`),
    log: silentLog,
    clock,
    random: () => 0.5,
    ...options,
  });
  ended = agent.run(stop.signal);
  await clock.advance(0);
  return agent;
}

const names = (agent: NodeAgent) => agent.held().map(({ name }) => name);

describe('an agent', () => {
  it('holds what is granted, finishes its work, releases, and lets go', async () => {
    cluster.put('orders.0', { phase: 'Active', owner: 'a', epoch: 7 });
    const work = Promise.withResolvers<void>();
    const agent = await start({ onDrain: () => work.promise });
    cluster.put('orders.1', { phase: 'Active', owner: 'a', epoch: 8 });
    await clock.advance(0);
    expect(names(agent)).toEqual(['orders.0', 'orders.1']);
    cluster.put('orders.0', { phase: 'Draining', owner: 'a', epoch: 7 });
    await clock.advance(100);
    expect(names(agent)).toEqual(['orders.0', 'orders.1']);
    // Its work is over: from here on it is not to be worked on, whether or not the release arrives.
    cluster.refusedReleases = 1;
    work.resolve();
    await clock.advance(0);
    expect([names(agent), cluster.releases]).toEqual([['orders.1'], []]);
    await clock.advance(1000);
    expect([names(agent), cluster.releases]).toEqual([['orders.1'], ['orders.0 a/7']]);
    cluster.put('orders.0', { phase: 'Active', owner: 'b', epoch: 9 });
    await clock.advance(0);
    expect(told).toEqual(['granted orders.0 7', 'granted orders.1 8', 'moved orders.0 7']);
  });

  it('begins anew under a larger epoch, and holds nothing that is Lost', async () => {
    cluster.put('orders.0', { phase: 'Active', owner: 'a', epoch: 7 });
    const agent = await start();
    cluster.put('orders.0', { phase: 'Draining', owner: 'a', epoch: 7 });
    await clock.advance(0);
    expect([names(agent), cluster.releases]).toEqual([[], ['orders.0 a/7']]);
    // The move was taken back.
    cluster.put('orders.0', { phase: 'Active', owner: 'a', epoch: 8 });
    await clock.advance(0);
    expect(names(agent)).toEqual(['orders.0']);
    cluster.put('orders.0', { phase: 'Lost', owner: 'a', epoch: 8 });
    await clock.advance(0);
    expect(names(agent)).toEqual([]);
    expect(told).toEqual([
      'granted orders.0 7',
      'moved orders.0 7',
      'granted orders.0 8',
      'moved orders.0 8',
    ]);
  });

  it('creates its MeshNode, and takes one that is there as it is', async () => {
    await start({ register: { spec: {} } });
    stop.abort();
    await ended;
    stop = new AbortController();
    await start({ register: { spec: { weight: 2 } } });
    expect(cluster.created).toEqual(['a']);
  });
});

describe('an agent whose lease cannot be renewed', () => {
  let agent: NodeAgent;
  let drained: AbortSignal | undefined;

  beforeEach(async () => {
    cluster.put('orders.0', { phase: 'Active', owner: 'a', epoch: 7 });
    agent = await start({
      onDrain: async (_, signal) => {
        drained = signal;
        await clock.sleep(60_000, signal);
      },
    });
    cluster.refusesLeases = true;
  });

  it('lets go of everything a fifth of its duration before others may take it', async () => {
    cluster.put('orders.0', { phase: 'Draining', owner: 'a', epoch: 7 });
    await clock.advance(7_900);
    expect([names(agent), drained?.aborted]).toEqual([['orders.0'], false]);
    await clock.advance(100);
    expect([names(agent), drained?.aborted, cluster.releases]).toEqual([[], true, []]);
    expect(told).toEqual(['granted orders.0 7', 'leaseLost orders.0 7']);
  });

  it('does not take up what it knew before, although no watch told of the grant to another', async () => {
    await clock.advance(8_500);
    cluster.deaf = true;
    await clock.advance(1_500);
    cluster.put('orders.0', { phase: 'Active', owner: 'b', epoch: 8 });
    cluster.refusesLeases = false;
    await clock.advance(10_000);
    expect([names(agent), told]).toEqual([[], ['granted orders.0 7', 'leaseLost orders.0 7']]);
  });

  it('holds again what a list says after the renewal', async () => {
    await clock.advance(9_000);
    cluster.deaf = true;
    cluster.put('orders.0', { phase: 'Active', owner: 'a', epoch: 9 });
    cluster.refusesLeases = false;
    await clock.advance(4_000);
    expect(names(agent)).toEqual(['orders.0']);
    expect(told).toEqual(['granted orders.0 7', 'leaseLost orders.0 7', 'granted orders.0 9']);
  });

  it('holds nothing when it is started anew, until it is renewed', async () => {
    stop.abort();
    await ended;
    [stop, told] = [new AbortController(), []];
    agent = await start();
    await clock.advance(5_000);
    cluster.deaf = true;
    cluster.put('orders.0', { phase: 'Active', owner: 'b', epoch: 8 });
    cluster.refusesLeases = false;
    await clock.advance(5_000);
    expect([names(agent), told]).toEqual([[], []]);
  });
});
