import { ServerInterceptingCall, type ServerInterceptor, status as statusCodes } from '@grpc/grpc-js';
import { HealthService } from '@meshkit/proto/health';
import type { Clock } from '@meshkit/shards/clock';
import type { Span } from '@opentelemetry/api';
import type { AccessRecorder } from './access-record.ts';
import { textMetadata } from './grpc-call.ts';
import { REFLECTION_SERVICES } from './grpc-reflection.ts';

/** What is open to whoever reaches the port, by path; `op` of its lines in the access log. */
const OPEN = new Map<string, string>([
  [HealthService.check.path, 'health'],
  [HealthService.watch.path, 'healthWatch'],
  ...REFLECTION_SERVICES.flatMap((service) =>
    Object.values(service).map(({ path }) => [path, 'reflection'] as const),
  ),
]);

/** Records the calls that pass no gates; the others record themselves, with what the gates found out. */
export function recordOpenCalls(recorder: AccessRecorder, clock: Clock): ServerInterceptor {
  return ({ path }, call) => {
    const op = OPEN.get(path);
    // What grpc-js passes is such a call, or one below it with the same methods.
    if (op === undefined) return call as ServerInterceptingCall;
    const arrivedAt = clock.monotonic();
    let span: Span | undefined;
    let recorded = false;
    const record = (status: number): void => {
      if (recorded) return;
      recorded = true;
      const durationMs = clock.monotonic() - arrivedAt;
      const outcome = { status: statusCodes[status] ?? String(status), protocol: 'h2', durationMs };
      recorder.record({ op, transport: 'grpc', decision: 'none' }, outcome, span);
    };
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata(metadata, pass) {
            span = recorder.begin(textMetadata(metadata));
            pass(metadata);
          },
          // Also told of every call that has ended.
          onCancel: () => record(statusCodes.CANCELLED),
        }),
      sendStatus(status, next) {
        record(status.code);
        next(status);
      },
    });
  };
}
