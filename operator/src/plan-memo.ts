import { type PlacementInput, type PlacementShard, type Plan, plan } from '@meshkit/shards/placement';
import { semanticallyEqual } from '@meshkit/shards/semantic-equality';

/**
 * The planner, remembering the last plan of one set: most passes (a release, an annotation, an own write) do not change
 * what the planner sees, and a plan of 10,000 shards takes longer than comparing its input.
 */
export class PlanMemo {
  readonly #observeSeconds: (seconds: number) => void;
  readonly #monotonic: () => number;
  #last: { input: PlacementInput; plan: Plan } | undefined;

  constructor(monotonic: () => number, observeSeconds: (seconds: number) => void) {
    this.#monotonic = monotonic;
    this.#observeSeconds = observeSeconds;
  }

  plan(input: PlacementInput): Plan {
    if (this.#last && sameInput(this.#last.input, input)) return this.#last.plan;
    const started = this.#monotonic();
    const result = plan(input);
    this.#observeSeconds((this.#monotonic() - started) / 1000);
    this.#last = { input, plan: result };
    return result;
  }
}

/** Field by field for the shards, which are many; a general comparison takes ten times as long. */
function sameInput(a: PlacementInput, b: PlacementInput): boolean {
  if (a.shards.length !== b.shards.length) return false;
  const { shards: _, ...rest } = a;
  const { shards: __, ...others } = b;
  return (
    semanticallyEqual(rest, others) && a.shards.every((shard, index) => sameShard(shard, b.shards[index]))
  );
}

function sameShard(a: PlacementShard, b: PlacementShard | undefined): boolean {
  return (
    a.id === b?.id &&
    a.owner === b.owner &&
    a.capacity === b.capacity &&
    a.pinned === b.pinned &&
    a.fixed === b.fixed &&
    semanticallyEqual(a.locality, b.locality)
  );
}
