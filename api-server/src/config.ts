import { z } from 'zod';
import { WATCH_DEFAULTS } from './server.ts';

const address = z
  .string()
  .regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'write HOST:PORT, such as 0.0.0.0:8443')
  .transform((text) => {
    const colon = text.lastIndexOf(':');
    return { host: text.slice(0, colon).replaceAll(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
  })
  .refine(({ port }) => port <= 65_535, 'a port is at most 65535');

const required = (what: string) => z.string(`is required: ${what}`).min(1, `is required: ${what}`);

const whole = (least: number) =>
  z.preprocess(
    (value) => (typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value),
    z.int(`a whole number from ${least}`).min(least, `a whole number from ${least}`),
  );

/** Everything that the executable can be told; the flags, their variables and the documentation follow from it. */
export const apiServerConfig = z.object({
  kubeconfig: z
    .string()
    .optional()
    .describe('Path of a kubeconfig; absent: KUBECONFIG, ~/.kube/config, in-cluster.'),
  context: z.string().optional().describe("Context in it; absent: the file's current one."),
  listen: address.prefault('0.0.0.0:8443').describe('HOST:PORT of the API (HTTP/2 and HTTP/1.1 over TLS).'),
  grpcListen: address
    .optional()
    .describe('HOST:PORT of the same API as gRPC, over TLS, such as 0.0.0.0:9443; absent: no gRPC.'),
  healthListen: address
    .prefault('0.0.0.0:8081')
    .describe('HOST:PORT of /livez, /readyz and /metrics, plain HTTP.'),
  tlsCert: required('the path of a PEM certificate chain').describe('PEM file, re-read when it changes.'),
  tlsKey: required("the path of the certificate's PEM key").describe('PEM file, re-read when it changes.'),
  audience: z.string().min(1).default('meshkit-shards').describe('Tokens must be meant for this audience.'),
  acceptClusterAudience: z
    .boolean('is true or false')
    .default(false)
    .describe(
      "Also take tokens meant for kube-apiserver, so that people log in with their kubeconfig's token.",
    ),
  requestsPerSecond: whole(0)
    .default(1_000)
    .describe('Of one user, over REST and gRPC, with ten times as many saved up at most; 0: no limit.'),
  ringSize: whole(1)
    .default(WATCH_DEFAULTS.ringSize)
    .describe(
      'Changes held in memory, for resuming watches and for later pages of a list; fewer where they take more than 256 MiB, which the log then says.',
    ),
  maxWatches: whole(1).default(WATCH_DEFAULTS.maxWatches).describe('Watches open at once.'),
  maxWatchesPerUser: whole(1)
    .default(WATCH_DEFAULTS.maxWatchesPerUser)
    .describe('Watches of one user open at once.'),
  logLevel: z
    .enum(['debug', 'info', 'warn', 'error'])
    .default('info')
    .describe('debug, info, warn or error.'),
  printConfig: z
    .boolean('is true or false')
    .default(false)
    .describe('Print the effective settings and exit.'),
});
