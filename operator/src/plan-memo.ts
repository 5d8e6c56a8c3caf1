import { type PlacementInput, type Plan, plan } from '@meshkit/shards/placement';
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
    if (this.#last && semanticallyEqual(this.#last.input, input)) return this.#last.plan;
    const started = this.#monotonic();
    const result = plan(input);
    this.#observeSeconds((this.#monotonic() - started) / 1000);
    this.#last = { input, plan: result };
    return result;
  }
}
