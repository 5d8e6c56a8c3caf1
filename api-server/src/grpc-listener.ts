import type { SecureContextOptions } from 'node:tls';
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { AccessRecorder } from './access-record.ts';
import { GrpcHealth } from './grpc-health.ts';
import { recordOpenCalls } from './grpc-open-calls.ts';
import { REFLECTION_SERVICES, reflection } from './grpc-reflection.ts';
import { MAX_WATCH_BYTES } from './grpc-request.ts';
import type { ListenAddress } from './listener.ts';
import type { Certificate } from './tls-files.ts';

export interface GrpcListenerOptions {
  service: { definition: ServiceDefinition; implementation: UntypedServiceImplementation };
  address: ListenAddress;
  certificate: Certificate;
  /** Why requests should go elsewhere; undefined when ready. */
  notReady: () => string | undefined;
  /** For calls of health and reflection; those of the service see to it themselves. */
  recorder: AccessRecorder;
  clock: Clock;
  /** Of a connection, and then of the calls that it still has; absent: half an hour each. */
  age?: { ms: number; graceMs: number };
}

/** An open port that speaks gRPC. */
export interface GrpcListener {
  /** `host:port`, as gRPC clients write it. */
  readonly address: string;
  /** For connections made from now on. */
  renew(certificate: Certificate): void;
  /** Keeps health watchers informed until aborted. */
  run(signal: AbortSignal): Promise<void>;
  /** Accepts nothing new, sends GOAWAY, lets calls under way finish, and cuts off what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

const MINUTE_MS = 60_000;
/**
 * Connections do not grow old, so that their memory does not either and new replicas get their share: calls under way
 * go on for the grace, which is enough for all that have an end; a watch goes on elsewhere, with its token.
 */
const AGE = { ms: 30 * MINUTE_MS, graceMs: 30 * MINUTE_MS };

/** Documented in docs/grpc.md. */
const OPTIONS = {
  // A peer that does not answer a ping is gone: its streams must not be kept for it.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.max_connection_idle_ms': 5 * MINUTE_MS,
  'grpc.max_concurrent_streams': 1_000,
  // Above what a request may have, so that it is refused with an answer that says so.
  'grpc.max_receive_message_length': MAX_WATCH_BYTES,
  'grpc.enable_channelz': 0,
};

/** gRPC over HTTP/2 with TLS, with health and reflection beside the service. Throws `unavailable` when the port cannot be had. */
export async function listenGrpc(options: GrpcListenerOptions): Promise<GrpcListener> {
  const { service, address, certificate, notReady, recorder, clock, age = AGE } = options;
  const server = new Server({
    ...OPTIONS,
    'grpc.max_connection_age_ms': age.ms,
    'grpc.max_connection_age_grace_ms': age.graceMs,
    interceptors: [recordOpenCalls(recorder, clock)],
  });
  const health = new GrpcHealth(notReady);
  server.addService(service.definition, service.implementation);
  server.addService(health.definition, health.implementation);
  for (const definition of REFLECTION_SERVICES) server.addService(definition, reflection);
  const credentials = new RenewableCredentials(certificate);
  const port = await bind(server, address, credentials);
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return {
    address: `${host}:${port}`,
    renew: (renewed) => credentials.renew(renewed),
    run: (signal) => health.run(clock, signal),
    async close(graceMs) {
      health.end();
      const closed = new AbortController();
      server.tryShutdown(() => closed.abort());
      await clock.sleep(graceMs, closed.signal).catch((error: unknown) => {
        if (!closed.signal.aborted) throw error;
      });
      server.forceShutdown();
    },
  };
}

async function bind(
  server: Server,
  { host, port }: ListenAddress,
  credentials: ServerCredentials,
): Promise<number> {
  const at = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.bindAsync(at, credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  try {
    return await promise;
  } catch (error) {
    server.forceShutdown();
    const why = error instanceof Error ? error.message : String(error);
    throw new ShardError('unavailable', `cannot listen on ${at}: ${why}`, {}, error);
  }
}

/** A certificate that can be replaced under a listening server; grpc-js's own can only be read from files that it watches. */
class RenewableCredentials extends ServerCredentials {
  constructor(certificate: Certificate) {
    super({}, contextOf(certificate));
  }

  renew(certificate: Certificate): void {
    this.updateSecureContextOptions(contextOf(certificate));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function contextOf({ cert, key }: Certificate): SecureContextOptions {
  return { cert, key };
}
