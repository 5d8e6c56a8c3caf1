import {
  type ListLoad,
  type ListResult,
  type RevalidationLoad,
  type RevalidationResult,
  runLists,
  runRevalidations,
} from './list-load.ts';
import { Arrivals, type Histogram, histogram } from './positions.ts';
import { type OpenWatches, WatchLoad } from './watch-load.ts';
import { runWrites, type WriteLoad, type WriteResult } from './write-load.ts';

/** What a generator process can be asked, and what it answers: structured clones over Node's IPC channel. */
export interface Commands {
  list: { ask: ListLoad; answer: ListResult };
  revalidate: { ask: RevalidationLoad; answer: RevalidationResult };
  write: { ask: WriteLoad; answer: WriteResult };
  /** Opens streams besides those that are open; answers once all are live. */
  watch: { ask: OpenWatches; answer: { ms: number } };
  /** Deliveries of these changes since the last `measured`. */
  arrived: { ask: { written: [number, number][] }; answer: number };
  /** Cuts all connections. */
  unwatch: { ask: null; answer: null };
  /** Delays since the last `measured` of the changes that were written then. */
  measured: { ask: { written: [number, number][] }; answer: Measured };
}

export interface Measured {
  delays: Histogram;
  deliveries: number;
  open: number;
  /** Why streams ended that nobody closed; the first few. */
  ended: string[];
}

export type Command = keyof Commands;

const arrivals = new Arrivals();
let watches: WatchLoad[] = [];

const handlers: { [C in Command]: (ask: Commands[C]['ask']) => Promise<Commands[C]['answer']> } = {
  list: runLists,
  revalidate: runRevalidations,
  write: runWrites,
  watch: async (ask) => {
    const started = performance.now();
    const load = new WatchLoad(arrivals);
    watches.push(load);
    await load.open(ask);
    return { ms: performance.now() - started };
  },
  arrived: async ({ written }) => arrivals.delays(new Map(written)).length,
  unwatch: async () => {
    for (const load of watches) load.close();
    watches = [];
    arrivals.clear();
    return null;
  },
  measured: async ({ written }) => {
    const delays = arrivals.delays(new Map(written));
    arrivals.clear();
    const states = watches.map(({ state }) => state);
    return {
      delays: histogram(delays),
      deliveries: delays.length,
      open: states.reduce((sum, { open }) => sum + open, 0),
      ended: states.flatMap(({ ended }) => ended),
    };
  },
};

process.on('message', ({ command, ask }: { command: Command; ask: never }) => {
  handlers[command](ask).then(
    (answer) => process.send?.({ answer }),
    (error: unknown) => process.send?.({ error: error instanceof Error ? error.message : String(error) }),
  );
});
// The bench is gone: so is what it wanted to know.
process.on('disconnect', () => process.exit(0));
