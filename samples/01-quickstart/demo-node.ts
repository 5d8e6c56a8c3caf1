import { parseArgs } from 'node:util';
import { type HeldShard, NodeAgent } from '@meshkit/client/agent';
import pino from 'pino';

/**
 * Stands in for a worker: keeps the Leases of its nodes renewed, and when a shard is to move, finishes its
 * "work" (a short pause) and releases it. One process may play several nodes.
 *
 *   node samples/01-quickstart/demo-node.ts --kubeconfig FILE --namespace payments --node node-1 --node node-2
 */
const { values } = parseArgs({
  options: {
    kubeconfig: { type: 'string' },
    namespace: { type: 'string' },
    node: { type: 'string', multiple: true },
    'lease-seconds': { type: 'string', default: '10' },
    'drain-ms': { type: 'string', default: '200' },
  },
});
if (values.node === undefined) {
  process.stderr.write('demo-node: name at least one MeshNode with --node\n');
  process.exit(2);
}

const log = pino({ base: undefined }, pino.destination(2));
const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort());

const drainMs = Number(values['drain-ms']);
await Promise.all(
  values.node.map((node) => {
    const say = (message: string) => (shard: HeldShard) =>
      log.info({ node, shard: shard.name, epoch: shard.epoch }, message);
    const agent = new NodeAgent({
      kubeconfig: values.kubeconfig,
      namespace: values.namespace,
      node,
      leaseDurationSeconds: Number(values['lease-seconds']),
      onGrant: say('granted'),
      onRevoke: say('gave up'),
      onDrain: async (shard, signal) => {
        say('draining')(shard);
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, drainMs);
          signal.addEventListener('abort', () => {
            clearTimeout(timer);
            resolve();
          });
        });
      },
      log,
    });
    return agent.run(stop.signal);
  }),
);
