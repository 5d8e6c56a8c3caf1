import type { HistoryEntry, ShardState, WatcherInfo } from './history.ts';

/** One thing that happened to one shard, as the oracle saw it. */
export interface TruthEvent {
  position: bigint;
  key: string;
  before?: ShardState;
  after?: ShardState;
  /** Number of the history it belongs to: a restore begins another. */
  era: number;
}

/** The oracle's record, put in order, and the state at any position of it. */
export class Truth {
  /** Everything, in the order of eras and positions. */
  readonly events: TruthEvent[] = [];
  readonly eras: number;
  /** By era, then by key: states in the order of positions. */
  readonly #states: Map<string, { position: bigint; state?: ShardState }[]>[] = [new Map()];

  constructor(entries: readonly HistoryEntry[]) {
    let states = this.#states[0]!;
    for (const entry of entries) {
      if (entry.kind === 'restored') {
        states = new Map();
        this.#states.push(states);
      }
      if (entry.kind !== 'truth') continue;
      const position = BigInt(entry.position);
      const known = states.get(entry.key) ?? [];
      states.set(entry.key, known);
      const newest = known.at(-1);
      if (newest && position <= newest.position) throw new Error(`the oracle went back at ${entry.position}`);
      known.push({ position, state: entry.state });
      const era = this.#states.length - 1;
      this.events.push({ position, key: entry.key, before: newest?.state, after: entry.state, era });
    }
    this.eras = this.#states.length;
  }

  /** Every key that ever was. */
  get keys(): Set<string> {
    return new Set(this.#states.flatMap((states) => [...states.keys()]));
  }

  /** What there is after everything up to the position (absent: after everything) has happened. */
  at(era: number, position?: bigint): Map<string, ShardState> {
    const result = new Map<string, ShardState>();
    for (const [key, states] of this.#states[era] ?? []) {
      const found = states.findLast((one) => position === undefined || one.position <= position);
      if (found?.state) result.set(key, found.state);
    }
    return result;
  }
}

/** Whether the watcher asked for a shard like this. Our own, so that the product's filter is not its own judge. */
export function passes(watcher: WatcherInfo, key: string, state: ShardState | undefined): boolean {
  if (!state) return false;
  const { owners, phases, search } = watcher;
  if (owners && (state.owner === undefined || !owners.includes(state.owner))) return false;
  if (phases && !phases.includes(state.phase)) return false;
  return search === undefined || key.slice(key.indexOf('.') + 1).includes(search);
}

export function sameState(a: ShardState | undefined, b: ShardState | undefined): boolean {
  return describeState(a) === describeState(b);
}

export function describeState(state: ShardState | undefined): string {
  if (!state) return 'gone';
  const { uid, generation, version, epoch, owner, phase } = state;
  return `${uid.slice(0, 8)} g${generation} v${version} e${epoch} ${phase} ${owner ?? '-'}`;
}

/** Where two folds differ, in words; empty when they are the same. */
export function differences(
  told: ReadonlyMap<string, ShardState>,
  expected: ReadonlyMap<string, ShardState>,
): string[] {
  const keys = new Set([...told.keys(), ...expected.keys()]);
  return [...keys]
    .filter((key) => !sameState(told.get(key), expected.get(key)))
    .map((key) => `${key}: told ${describeState(told.get(key))}, is ${describeState(expected.get(key))}`);
}
