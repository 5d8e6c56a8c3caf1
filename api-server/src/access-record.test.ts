import { silentLog } from '@meshkit/crds/log';
import type { Attributes, Span, Tracer } from '@opentelemetry/api';
import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { AccessRecorder } from './access-record.ts';

/** Keeps what its spans were told. */
class Notes {
  readonly spans: { name: string; attributes: Attributes; status?: number; ended: boolean }[] = [];

  tracer(): Tracer {
    const startSpan = (name: string) => {
      const note: Notes['spans'][number] = { name, attributes: {}, ended: false };
      this.spans.push(note);
      const span: Partial<Span> = {
        updateName: (better) => {
          note.name = better;
          return span as Span;
        },
        setAttributes: (attributes) => {
          Object.assign(note.attributes, attributes);
          return span as Span;
        },
        setStatus: ({ code }) => {
          note.status = code;
          return span as Span;
        },
        end: () => {
          note.ended = true;
        },
      };
      return span as Span;
    };
    return { startSpan } as unknown as Tracer;
  }
}

it('a request is a span, named after what was asked', () => {
  const notes = new Notes();
  const recorder = new AccessRecorder(silentLog, new Registry(), notes.tracer());
  const outcome = { status: 200, protocol: 'h2', durationMs: 3 };
  const access = { op: 'list', scope: 'read', decision: 'allow', namespace: 'payments', count: 7 } as const;
  recorder.record(access, outcome, recorder.begin({}));
  recorder.record(
    { op: 'get', decision: 'allow', code: 'internal' },
    { ...outcome, status: 500 },
    recorder.begin({}),
  );
  recorder.record(
    { op: 'get', decision: 'deny', code: 'scopeMissing' },
    { ...outcome, status: 403 },
    recorder.begin({}),
  );
  expect(notes.spans).toMatchObject([
    {
      name: 'list',
      ended: true,
      attributes: {
        'meshkit.scope': 'read',
        'meshkit.decision': 'allow',
        'meshkit.namespace': 'payments',
        'meshkit.count': 7,
        'network.protocol.name': 'h2',
      },
    },
    // OpenTelemetry: a server's span is in error for its own fault, not for the caller's.
    { name: 'get', ended: true, status: 2 },
    { name: 'get', ended: true, status: 0 },
  ]);
});

it('without a tracer in the process spans are let go', () => {
  const recorder = new AccessRecorder(silentLog, new Registry());
  const span = recorder.begin({ traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' });
  recorder.record({ op: 'list', decision: 'allow' }, { status: 200, protocol: 'h2', durationMs: 1 }, span);
  expect(span.isRecording()).toBe(false);
});
