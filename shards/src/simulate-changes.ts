import { matchesSelector, poolNamespace, serves } from './candidates.ts';
import type { NodeState } from './decide.ts';
import { effectiveSet } from './defaults.ts';
import { ShardError } from './errors.ts';
import { parseLoadBound } from './fair-share.ts';
import { type Fault, invalid } from './problem.ts';
import {
  API_VERSION,
  type KubeObject,
  type MeshNode,
  type MeshNodeSpec,
  type ShardAssignment,
  type ShardSet,
} from './records.ts';
import { semanticallyEqual } from './semantic-equality.ts';
import type { MeshState, SimulatedChange, SimulatedManifest, SimulationRequest } from './simulate.ts';

/** What would be there after the manifests and the changes. */
export interface Proposal {
  /** The sets to plan, by namespace and name. */
  sets: ShardSet[];
  shards: readonly ShardAssignment[];
  nodes: readonly NodeState[];
  /** Perhaps: something was said of nodes. */
  nodesDiffer: boolean;
  /** `namespace/name` of sets that exist in the manifests only. */
  added: ReadonlySet<string>;
  /** Of sets whose own spec, or that of one of their shards, differs. */
  changed: ReadonlySet<string>;
  warnings: string[];
}

type NodeChange = Extract<SimulatedChange, { node: string }>;

/**
 * Applies a request to a state, without touching it. Throws `notFound` for a node or set that is not there,
 * `invalidArgument` for what makes no sense; both point at the place in the request's body.
 */
export function propose(state: MeshState, request: SimulationRequest): Proposal {
  const proposing = new Proposing(state, request);
  const { manifests = [], changes = [] } = request;
  for (const [index, manifest] of manifests.entries()) proposing.apply(manifest, `/body/manifests/${index}`);
  for (const [index, change] of changes.entries()) proposing.change(change, `/body/changes/${index}`);
  return proposing.proposal();
}

export function keyOf({ metadata: { namespace, name } }: KubeObject): string {
  return `${namespace}/${name}`;
}

class Proposing {
  readonly #request: SimulationRequest;
  readonly #sets: Map<string, ShardSet>;
  readonly #shards: readonly ShardAssignment[];
  /** Of the manifests, by `namespace/name`. */
  readonly #applying = new Map<string, ShardAssignment>();
  #known: ReadonlyMap<string, ShardAssignment> | undefined;
  readonly #nodes: Map<string, NodeState>;
  /** `namespace/name` of nodes that own shards of the sets; worked out when somebody asks. */
  #owners: ReadonlySet<string> | undefined;
  readonly #applied = new Set<string>();
  readonly #added = new Set<string>();
  readonly #changed = new Set<string>();
  /** Keys of nodes that do not exist yet. */
  readonly #newNodes = new Set<string>();
  readonly #warnings: string[] = [];
  #nodesDiffer = false;

  constructor(state: MeshState, request: SimulationRequest) {
    const { namespace, shardSet } = request;
    if (shardSet !== undefined && namespace === undefined) {
      throw invalid([{ pointer: '/body/shardSet', detail: 'say the namespace of the set as well' }]);
    }
    const here = (object: KubeObject) => namespace === undefined || object.metadata.namespace === namespace;
    this.#request = request;
    this.#sets = new Map(state.sets.filter(here).map((set) => [keyOf(set), set]));
    this.#shards = namespace === undefined ? state.shards : state.shards.filter(here);
    this.#nodes = new Map(state.nodes.map((known) => [keyOf(known.node), known]));
  }

  apply(manifest: SimulatedManifest, pointer: string): void {
    const namespace = manifest.metadata.namespace ?? this.#request.namespace;
    const { kind, metadata } = manifest;
    const detail = 'name the namespace of the object, here or for the whole simulation';
    if (namespace === undefined) throw invalid([{ pointer: `${pointer}/metadata/namespace`, detail }]);
    const key = `${namespace}/${metadata.name}`;
    if (this.#applied.has(`${kind} ${key}`)) {
      throw invalid([{ pointer, detail: `${kind} ${key} is in the manifests twice` }]);
    }
    this.#applied.add(`${kind} ${key}`);
    if (kind === 'MeshNode') {
      const known = this.#nodes.get(key);
      const seen = known && this.#isVisible(known.node) ? known : undefined;
      if (!seen) {
        this.#warnings.push(`MeshNode ${key} is new: it is counted as ready`);
        this.#newNodes.add(key);
      }
      const node = merged(seen?.node, manifest, namespace) as MeshNode;
      this.#nodes.set(key, { ...(seen ?? { ready: true }), node });
      this.#nodesDiffer = true;
      return;
    }
    if (this.#request.namespace !== undefined && namespace !== this.#request.namespace) {
      const detail = `only namespace ${this.#request.namespace} is simulated: leave this object out, or simulate all namespaces`;
      throw invalid([{ pointer: `${pointer}/metadata/namespace`, detail }]);
    }
    if (kind === 'ShardSet') {
      const known = this.#sets.get(key);
      const set = merged(known, manifest, namespace) as ShardSet;
      readable(set, `${pointer}/spec`);
      this.#sets.set(key, set);
      if (!known) this.#added.add(key);
      else if (!semanticallyEqual(known.spec, set.spec)) this.#changed.add(key);
    } else {
      this.#known ??= new Map(this.#shards.map((shard) => [keyOf(shard), shard]));
      const known = this.#known.get(key);
      const shard = merged(known, manifest, namespace) as ShardAssignment;
      this.#applying.set(key, shard);
      if (!known || !semanticallyEqual(known.spec, shard.spec))
        this.#changed.add(`${namespace}/${shard.spec.shardSet}`);
    }
  }

  change(change: SimulatedChange, pointer: string): void {
    if ('node' in change) this.#nodesDiffer = true;
    switch (change.type) {
      case 'add':
        this.#add(change, pointer);
        break;
      case 'drain':
        this.#respec(change, pointer, { scheduling: 'Drain' });
        break;
      case 'cordon':
        this.#respec(change, pointer, { scheduling: 'Cordoned' });
        break;
      case 'weight':
        this.#respec(change, pointer, { weight: change.weight });
        break;
      case 'remove':
        this.#nodes.delete(keyOf(this.#find(change, pointer).node));
        break;
      case 'strategy':
        this.#revise(change.shardSet, pointer, ({ spec }) => ({ ...spec, strategy: change.strategy }));
        break;
      case 'policy':
        this.#revise(change.shardSet, pointer, ({ spec }) => {
          const { type: _type, shardSet: _set, maxConcurrentMoves, handoff, ...policy } = change;
          const churn = maxConcurrentMoves === undefined ? spec.churn : { ...spec.churn, maxConcurrentMoves };
          return { ...spec, ...policy, churn, handoff: { ...spec.handoff, ...handoff } };
        });
        break;
    }
  }

  proposal(): Proposal {
    const sets = this.#selected();
    const { namespace, shardSet } = this.#request;
    if (shardSet !== undefined && sets.length === 0) {
      throw absent('/body/shardSet', `there is no ShardSet ${shardSet} in namespace ${namespace}`);
    }
    if (sets.length === 0) {
      const where = namespace === undefined ? 'in any namespace' : `in namespace ${namespace}`;
      this.#warnings.push(`there is no ShardSet ${where}`);
    }
    this.#warnOfWhatIsIdle(sets);
    return {
      sets,
      shards: this.#shardsAfter(),
      nodes: [...this.#nodes.values()],
      nodesDiffer: this.#nodesDiffer,
      added: this.#added,
      changed: this.#changed,
      warnings: this.#warnings,
    };
  }

  #warnOfWhatIsIdle(sets: readonly ShardSet[]): void {
    const pools = new Set(sets.map(poolNamespace));
    const named = new Set(this.#sets.keys());
    for (const { node } of this.#nodes.values()) {
      const key = keyOf(node);
      if (this.#applied.has(`MeshNode ${key}`) && !pools.has(node.metadata.namespace)) {
        this.#warnings.push(
          `MeshNode ${key} has no bearing: no ShardSet that is simulated uses its namespace`,
        );
      }
    }
    for (const key of this.#newNodes) {
      const { namespace, labels } = this.#nodes.get(key)?.node.metadata ?? {};
      const here = sets.filter((set) => poolNamespace(set) === namespace);
      const isSelected = here.some(({ spec }) => matchesSelector(spec.nodes?.selector, labels));
      if (here.length > 0 && !isSelected) {
        this.#warnings.push(
          `MeshNode ${key} gets nothing: its labels are not those that a ShardSet selects nodes by`,
        );
      }
    }
    for (const shard of this.#applying.values()) {
      const set = `${shard.metadata.namespace}/${shard.spec.shardSet}`;
      if (!named.has(set)) {
        this.#warnings.push(
          `ShardAssignment ${keyOf(shard)}: there is no ShardSet ${set}, so nobody will own it`,
        );
      }
    }
  }

  #shardsAfter(): readonly ShardAssignment[] {
    if (this.#applying.size === 0) return this.#shards;
    return [...new Map([...(this.#known ?? []), ...this.#applying]).values()];
  }

  #add(change: Extract<SimulatedChange, { type: 'add' }>, pointer: string): void {
    const { node: name, weight, region, zone, labels } = change;
    const pools = this.#pools(change, pointer);
    if (pools.length !== 1) {
      const detail = `name the namespace of the node: ${pools.join(', ')}`;
      throw invalid([{ pointer: `${pointer}/namespace`, detail }]);
    }
    const namespace = pools[0] as string;
    const known = this.#nodes.get(`${namespace}/${name}`);
    if (known && this.#isVisible(known.node)) {
      const detail = `MeshNode ${name} exists in namespace ${namespace}: change its weight, or choose another name`;
      throw invalid([{ pointer: `${pointer}/node`, detail }]);
    }
    const spec: MeshNodeSpec = { weight, region, zone };
    // A node of a shared pool serves others only when it says so.
    if (namespace !== this.#request.namespace) spec.serves = ['*'];
    const node: MeshNode = {
      apiVersion: API_VERSION,
      kind: 'MeshNode',
      metadata: { name, namespace, labels },
      spec,
    };
    this.#nodes.set(`${namespace}/${name}`, { node, ready: true });
    this.#newNodes.add(`${namespace}/${name}`);
  }

  #respec(change: NodeChange, pointer: string, spec: MeshNodeSpec): void {
    const found = this.#find(change, pointer);
    if (!found.ready && change.type === 'drain') {
      this.#warnings.push(`${change.node} is not ready: what it has fails over at once, drained or not`);
    }
    const node = { ...found.node, spec: { ...found.node.spec, ...spec } };
    this.#nodes.set(keyOf(node), { ...found, node });
  }

  #find(change: NodeChange, pointer: string): NodeState {
    const pools = this.#pools(change, pointer);
    const visible = [...this.#nodes.values()].filter(
      ({ node }) => pools.includes(node.metadata.namespace ?? '') && this.#isVisible(node),
    );
    const found = visible.filter(({ node }) => node.metadata.name === change.node);
    if (found.length > 1) {
      const places = found.map(({ node }) => node.metadata.namespace).sort();
      const detail = `there is a MeshNode ${change.node} in ${places.join(' and in ')}: say its namespace`;
      throw invalid([{ pointer: `${pointer}/namespace`, detail }]);
    }
    const [only] = found;
    if (only) return only;
    const known = visible.map(({ node }) => node.metadata.name).sort();
    const some = known.length === 0 ? 'there is none' : `there are ${known.slice(0, 5).join(', ')}`;
    const more = known.length > 5 ? ` and ${known.length - 5} more` : '';
    const message = `there is no MeshNode ${change.node} in namespace ${pools.join(', ')}; ${some}${more}`;
    throw absent(`${pointer}/node`, message);
  }

  /** Namespaces where the node of a change may be. */
  #pools({ namespace }: NodeChange, pointer: string): string[] {
    const used = new Set(this.#selected().map((set) => poolNamespace(set) ?? ''));
    if (used.size === 0 && this.#request.namespace !== undefined) used.add(this.#request.namespace);
    if (namespace === undefined) return [...used].sort();
    if (used.has(namespace)) return [namespace];
    const message = `no ShardSet that is simulated uses MeshNodes of namespace ${namespace}`;
    throw absent(`${pointer}/namespace`, message);
  }

  /** Whoever may look at a namespace only sees those nodes of shared pools that serve it, or own shards of it. */
  #isVisible(node: MeshNode): boolean {
    const { namespace } = this.#request;
    if (namespace === undefined || serves(node, namespace)) return true;
    this.#owners ??= ownersOf(this.#shards, this.#sets);
    return this.#owners.has(keyOf(node));
  }

  #revise(shardSet: string | undefined, pointer: string, spec: (set: ShardSet) => ShardSet['spec']): void {
    const revised = this.#selected().filter(
      ({ metadata }) => shardSet === undefined || metadata.name === shardSet,
    );
    if (revised.length === 0) {
      const which = shardSet === undefined ? '' : ` ${shardSet}`;
      throw absent(`${pointer}/shardSet`, `there is no ShardSet${which} among those that are simulated`);
    }
    for (const set of revised) {
      const next = { ...set, spec: spec(set) };
      readable(next, pointer);
      this.#sets.set(keyOf(set), next);
      this.#changed.add(keyOf(set));
    }
  }

  #selected(): ShardSet[] {
    const { shardSet } = this.#request;
    return [...this.#sets.values()]
      .filter(({ metadata }) => shardSet === undefined || metadata.name === shardSet)
      .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  }
}

function ownersOf(
  shards: Iterable<ShardAssignment>,
  sets: ReadonlyMap<string, ShardSet>,
): ReadonlySet<string> {
  const owners = new Set<string>();
  for (const { metadata, spec, status } of shards) {
    const set = sets.get(`${metadata.namespace}/${spec.shardSet}`);
    const pool = set ? poolNamespace(set) : metadata.namespace;
    if (status?.owner !== undefined) owners.add(`${pool}/${status.owner}`);
    if (status?.move?.to !== undefined) owners.add(`${pool}/${status.move.to}`);
  }
  return owners;
}

/** As a server-side apply leaves it: the spec of the manifest, labels added, the status as it was. */
function merged<T extends KubeObject>(
  known: (T & { status?: unknown }) | undefined,
  manifest: SimulatedManifest,
  namespace: string,
): KubeObject {
  const { apiVersion, kind, metadata, spec } = manifest;
  const { name, labels } = metadata;
  const own = { ...known?.metadata, name, namespace, labels: { ...known?.metadata.labels, ...labels } };
  return { apiVersion, kind, metadata: own, spec, status: known?.status } as KubeObject;
}

/** Throws `invalidArgument` for a spec that the operator could not read. */
function readable({ spec }: ShardSet, pointer: string): void {
  try {
    parseLoadBound(effectiveSet(spec).loadBound);
  } catch (error) {
    if (error instanceof ShardError) throw invalid([{ pointer, detail: error.message }]);
    throw error;
  }
}

function absent(pointer: string, message: string): ShardError {
  const errors: Fault[] = [{ pointer, detail: message }];
  return new ShardError('notFound', message, { errors });
}
