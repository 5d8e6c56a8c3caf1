import { type ServerUnaryCall, type ServerWritableStream, type sendUnaryData, status } from '@grpc/grpc-js';
import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthService,
  HealthCheckResponse_ServingStatus as Serving,
} from '@meshkit/proto/health';
import { ShardServiceService } from '@meshkit/proto/v1/shard_service';
import type { Clock } from '@meshkit/shards/clock';

type HealthStream = ServerWritableStream<HealthCheckRequest, HealthCheckResponse>;

/** How often watchers hear of a change; a check asks at once. */
const LOOK_EVERY_MS = 250;
const MAX_WATCHERS = 1_000;
/** Empty: the server as a whole. */
const SERVICES = new Set(['', ShardServiceService.list.path.split('/')[1] ?? '']);

/** grpc.health.v1.Health, for probes and load balancers; nobody has to say who they are. SERVING is what `/readyz` says. */
export class GrpcHealth {
  readonly definition = HealthService;
  readonly #notReady: () => string | undefined;
  readonly #watchers = new Map<HealthStream, Serving>();

  constructor(notReady: () => string | undefined) {
    this.#notReady = notReady;
  }

  readonly implementation = {
    check: (
      { request }: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
      callback: sendUnaryData<HealthCheckResponse>,
    ): void => {
      const serving = this.#of(request.service);
      if (serving === Serving.SERVICE_UNKNOWN) {
        callback({ code: status.NOT_FOUND, details: `there is no service ${request.service.slice(0, 200)}` });
      } else callback(null, { status: serving });
    },
    watch: (stream: HealthStream): void => {
      if (this.#watchers.size >= MAX_WATCHERS) {
        stream.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many health watchers' });
        return;
      }
      this.#tell(stream, this.#of(stream.request.service));
      stream.once('close', () => this.#watchers.delete(stream));
    },
  };

  /** Keeps watchers informed until aborted. */
  async run(clock: Clock, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#look();
      await clock.sleep(LOOK_EVERY_MS, signal).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    }
  }

  /** Says the last word to the watchers: they would keep a stopping server waiting for ever. */
  end(): void {
    this.#look();
    for (const stream of this.#watchers.keys()) stream.end();
  }

  #look(): void {
    for (const [stream, known] of this.#watchers) {
      const now = this.#of(stream.request.service);
      if (now !== known) this.#tell(stream, now);
    }
  }

  #tell(stream: HealthStream, serving: Serving): void {
    this.#watchers.set(stream, serving);
    stream.write({ status: serving });
  }

  #of(service: string): Serving {
    if (!SERVICES.has(service)) return Serving.SERVICE_UNKNOWN;
    return this.#notReady() === undefined ? Serving.SERVING : Serving.NOT_SERVING;
  }
}
