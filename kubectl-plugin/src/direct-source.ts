import type { WatchEvent } from '@meshkit/client/shard-tracker';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { ShardExplanation } from '@meshkit/shards/explain';
import { shardMatches } from '@meshkit/shards/filter';
import { owningNodes } from '@meshkit/shards/owning-nodes';
import type { ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { type NodeView, type ShardView, served, servedNode } from '@meshkit/shards/shard-view';
import type { Simulation, SimulationRequest } from '@meshkit/shards/simulate';
import { readState } from './direct-state.ts';
import { followKubernetes } from './direct-watch.ts';
import type { CallLimits, FollowOptions, ListLimits, ShardSource } from './shard-source.ts';
import type { Kube } from './surroundings.ts';

/** So many an explanation names. */
const MAX_NODES = 1_000;

export interface DirectMeans {
  note: (text: string) => Promise<void>;
  clock: Clock;
  random: () => number;
}

/** Kubernetes itself, through the kubeconfig: works when no API server is there, and asks for native rights. */
export class DirectSource implements ShardSource {
  readonly kind = 'direct';
  readonly #client: Kube;
  readonly #means: DirectMeans;

  constructor(client: Kube, means: DirectMeans) {
    this.#client = client;
    this.#means = means;
  }

  get server() {
    return this.#client.server;
  }

  async *pages(filter: ShardFilter, { signal, timeoutMs, limit }: ListLimits) {
    const { namespace } = filter;
    const fieldSelector = fieldSelectorOf(filter);
    const { items } = await this.#client.listAll(SHARD_ASSIGNMENTS, {
      namespace,
      fieldSelector,
      signal,
      timeoutMs,
    });
    // What selectors cannot say is decided here, by the same code as in the API server.
    const found = items.filter((shard) => shardMatches(filter, shard)).sort(byPlace);
    yield { items: found.slice(0, limit).map(served) };
  }

  async get(namespace: string, name: string, limits: CallLimits): Promise<ShardView> {
    try {
      return served(await this.#client.get(SHARD_ASSIGNMENTS, { namespace, name }, limits));
    } catch (error) {
      // Kubernetes says 404 both for a missing object and for a missing kind; only the first is meant here.
      if (!(error instanceof ShardError) || error.code !== 'notFound' || error.details.reason !== 'NotFound')
        throw error;
      throw new ShardError('notFound', `there is no shard ${name} in namespace ${namespace}`, {}, error);
    }
  }

  async nodes(namespace: string | undefined, limits: CallLimits): Promise<readonly NodeView[]> {
    const { items: nodes } = await this.#client.listAll(MESH_NODES, { namespace, ...limits });
    const [shards, sets] = await this.#owners(namespace, limits);
    const setOf = new Map(sets.map((set) => [`${set.metadata.namespace}/${set.metadata.name}`, set]));
    return owningNodes(nodes, shards, (place, name) => setOf.get(`${place}/${name}`)).map(servedNode);
  }

  watch(filter: ShardFilter, options: FollowOptions): AsyncIterable<WatchEvent> {
    if (options.resumeToken !== undefined) {
      const how = 'leave it out, or use --mode api';
      throw new ShardError('invalidArgument', `--resume-token needs the MeshKit API server: ${how}`);
    }
    return followKubernetes(this.#client, filter, options, this.#means);
  }

  async simulate(request: SimulationRequest, limits: CallLimits): Promise<Simulation> {
    const { boundedSimulation, DEFAULT_ITEMS, simulate } = await import('@meshkit/shards/simulate');
    const simulation = simulate(await readState(this.#client, request.namespace, limits), request);
    return boundedSimulation(simulation, request.maxItems ?? DEFAULT_ITEMS);
  }

  async explain(namespace: string, name: string, limits: CallLimits): Promise<ShardExplanation> {
    const { explain } = await import('@meshkit/shards/explain');
    return explain(await readState(this.#client, namespace, limits), { namespace, name }, MAX_NODES);
  }

  diff(): never {
    throw withoutHistory('diff --from');
  }

  history(): never {
    throw withoutHistory('history');
  }

  async status() {
    return undefined;
  }

  /** Nodes of a shared pool own shards of other namespaces, which not everybody may list. */
  async #owners(namespace: string | undefined, limits: CallLimits) {
    const all = async (place?: string) =>
      Promise.all([
        this.#client.listAll(SHARD_ASSIGNMENTS, { namespace: place, ...limits }),
        this.#client.listAll(SHARD_SETS, { namespace: place, ...limits }),
      ]);
    const [shards, sets] = await all().catch(async (error: unknown) => {
      if (namespace === undefined || !(error instanceof ShardError) || error.code !== 'scopeMissing')
        throw error;
      await this.#means.note(
        `SHARDS counts those of namespace ${namespace} only: you may not list the others`,
      );
      return all(namespace);
    });
    return [shards.items, sets.items] as const;
  }

  close() {
    return this.#client.close();
  }
}

function withoutHistory(verb: string): ShardError {
  const how = 'use --mode api; explain has the last 8 changes of a shard';
  return new ShardError(
    'invalidArgument',
    `Kubernetes keeps no history, so ${verb} needs the API server: ${how}`,
  );
}

/** The part of a filter that Kubernetes can apply (the CRD's selectableFields), so that less is transferred. */
function fieldSelectorOf({ shardSet, owners = [], phases = [] }: ShardFilter): string | undefined {
  const terms: string[] = [];
  if (shardSet !== undefined) terms.push(`spec.shardSet=${shardSet}`);
  if (owners.length === 1) terms.push(`status.owner=${owners[0]}`);
  // Pending shards may have no status yet, and so no phase to select by.
  if (phases.length === 1 && phases[0] !== 'Pending') terms.push(`status.phase=${phases[0]}`);
  return terms.length > 0 ? terms.join(',') : undefined;
}

function byPlace(a: ShardAssignment, b: ShardAssignment): number {
  const place = ({ metadata }: ShardAssignment) => `${metadata.namespace}\0${metadata.name}`;
  return place(a) < place(b) ? -1 : 1;
}
