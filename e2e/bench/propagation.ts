import { withBenchProduct } from './bench-product.ts';
import { type Benchmark, machine, median, type Row, round, spread } from './report.ts';
import { distributionOf, StreamLoad, type Stretch, together } from './stream-load.ts';

const NAMESPACE = 'bench';
const SHARDS = 1_000;
const WATCHERS = 1_000;
const CHANGES_PER_SECOND = 100;
const FULL = { rounds: 7, runMs: 4_000 };
const QUICK = { rounds: 2, runMs: 2_000 };

/** From kube-apiserver's answer to a write until 1,000 watchers know, at 100 changes a second, beside its own watch. */
export const benchmarkPropagation: Benchmark = ({ progress, quick }) =>
  withBenchProduct(progress, async (product) => {
    const { rounds, runMs } = quick ? QUICK : FULL;
    progress(`writing ${SHARDS} shards`);
    const load = new StreamLoad(product, NAMESPACE, await product.shards(NAMESPACE, SHARDS));
    const cases = [product.meshkit, product.grpc, product.kube].map((target) => {
      return { target, stretches: [] as Stretch[] };
    });
    try {
      for (let at = 0; at <= rounds; at++) {
        for (const { target, stretches } of cases) {
          await load.open(target, WATCHERS);
          const stretch = await load.run(CHANGES_PER_SECOND, runMs, target);
          await load.close();
          if (at > 0) stretches.push(stretch);
          progress(`round ${at}: ${target.subject}: p99 ${distributionOf(stretch.delays).p99} ms`);
        }
      }
    } finally {
      await load.stop();
    }
    const rows = cases.map(({ target, stretches }): Row => {
      const { delays, expected, deliveries, changes, refused, lost } = together(stretches);
      const p99s = stretches.map((stretch) => distributionOf(stretch.delays).p99);
      return {
        subject: target.subject,
        case: `${WATCHERS} watchers, ${CHANGES_PER_SECOND} changes/s`,
        unit: 'ms from the write',
        ...distributionOf(delays),
        p99Median: round(median(p99s)),
        p99Spread: spread(p99s),
        missed: expected - deliveries,
        lost,
        changesPerSecond: round((changes * 1_000) / (stretches.length * runMs)),
        refused,
      };
    });
    const figures = {
      p99Ms: Number(rows[0]?.p99Median),
      p99MsGrpc: Number(rows[1]?.p99Median),
      p99MsKube: Number(rows[2]?.p99Median),
      missed: Number(rows[0]?.missed) + Number(rows[1]?.missed),
    };
    return { bench: 'propagation', ok: figures.missed === 0, machine: machine(), figures, rows };
  });
