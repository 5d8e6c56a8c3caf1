import { setTimeout as sleep } from 'node:timers/promises';
import { type HeldShard, NodeAgent } from '@meshkit/client/agent';
import { silentLog } from '@meshkit/crds/log';
import type { FleetNews, FleetOrder } from './fleet-messages.ts';

/**
 * Plays the nodes of many runs with the real agent. Whatever a node is granted it writes to storage, at once and again later:
 * writes under way are not called back when ownership ends, as in a worker that hangs, so storage has to refuse them.
 */
const WRITES_AFTER_MS = [0, 120, 450, 1_100, 2_400];

const fleets = new Map<number, { stop: AbortController; ended: Promise<unknown> }>();

function tell(news: FleetNews): void {
  process.send?.(news);
}

function start(order: FleetOrder & { type: 'start' }): void {
  const { run, namespace, nodes, leaseSeconds, drainMs } = order;
  const stop = new AbortController();
  const { signal } = stop;
  const granted = (node: string, shard: HeldShard): void => {
    const news = { run, node, key: `${shard.namespace}/${shard.name}`, epoch: shard.epoch };
    tell({ type: 'grant', ...news });
    for (const afterMs of WRITES_AFTER_MS) setTimeout(() => tell({ type: 'write', ...news }), afterMs);
  };
  const agents = nodes.map(async ({ node, kubeconfig }) => {
    while (!signal.aborted) {
      const agent = new NodeAgent({
        kubeconfig,
        namespace,
        node,
        leaseDurationSeconds: leaseSeconds,
        onGrant: (shard) => granted(node, shard),
        onDrain: (_, lost) => sleep(drainMs, undefined, { signal: lost }).catch(() => undefined),
        log: silentLog,
      });
      await agent.run(signal).catch((error: unknown) => {
        process.stderr.write(`${namespace}/${node}: ${String(error)}\n`);
      });
      await sleep(100);
    }
  });
  fleets.set(run, { stop, ended: Promise.all(agents) });
}

process.on('message', (order: FleetOrder) => {
  if (order.type === 'start') start(order);
  else fleets.get(order.run)?.stop.abort();
});
// The harness is gone, so nobody is left to play for.
process.on('disconnect', () => process.exit(0));
tell({ type: 'ready' });
