import type { ServerResponse } from 'node:http';
import { parseShardFilter } from '@meshkit/shards/filter';
import type { ShardRepository } from '@meshkit/shards/repository';
import { openResumeToken } from '@meshkit/shards/resume-token';
import type { z } from 'zod';
import { watchEventSchema } from './answer-schemas.ts';
import type { EncodedViews } from './encoded-views.ts';
import { EXAMPLE_EVENTS } from './examples.ts';
import type { StreamingOperation } from './operation.ts';
import { noParams, watchQuery } from './parameters.ts';
import { carrierOf } from './protocol.ts';
import { STREAM_TYPE } from './rest.ts';
import { SseEncodings } from './sse-encoding.ts';
import { SseSink } from './sse-sink.ts';

export interface WatchSource {
  repository: Pick<ShardRepository, 'watch'>;
  views: EncodedViews;
  random: () => number;
}

const RETRY_MS = { least: 1_000, most: 5_000 };

/** The watch as server-sent events. */
export function watchShards(source: WatchSource): StreamingOperation<unknown, z.output<typeof watchQuery>> {
  const encodings = new SseEncodings(source.views);
  return {
    op: 'watch',
    method: 'GET',
    url: '/meshkit/shards/watch',
    scope: 'observe',
    params: noParams,
    query: watchQuery,
    target: (_params, { namespace }) => ({ namespace }),
    async stream(_params, { resumeToken, from, onExpired, allowCoalescing, ...conditions }, exchange) {
      const { request, reply, transport, caller } = exchange;
      const response: ServerResponse = reply.raw;
      const gone = Promise.withResolvers<void>();
      // Before the first await: a client that leaves meanwhile must not be missed, nor one that left while it was let in.
      reply.sse.onClose(() => gone.resolve());
      if (carrierOf(response).destroyed) gone.resolve();
      const sink = new SseSink({
        response,
        encoding: encodings.for(transport),
        headers: streamHeaders(reply.getHeaders()),
        retryMs: Math.round(RETRY_MS.least + source.random() * (RETRY_MS.most - RETRY_MS.least)),
        onBegin: () => reply.hijack(),
        onFail: ({ code }) => {
          request.access.code = code;
        },
      });
      const filter = parseShardFilter(conditions);
      const { lastEventId } = reply.sse;
      // Whoever opens it later does not know where it came in.
      if (lastEventId) openResumeToken(filter, lastEventId, '/header/last-event-id');
      const watch = await source.repository.watch(
        {
          filter,
          // An EventSource reconnects with the URL it began with, so what it has seen since counts more.
          resumeToken: lastEventId || resumeToken,
          from,
          onExpired,
          allowCoalescing,
        },
        sink,
        caller,
      );
      // For the log line, which is written when the stream is over.
      Object.defineProperty(request.access, 'count', { enumerable: true, get: () => watch.messages });
      await gone.promise;
      watch.close();
      // HTTP/1.1 says nothing of an answer that its client gave up, and the log would miss it.
      if (!response.writableFinished) response.emit('finish');
    },
    document: {
      operationId: 'watchShards',
      summary: 'Watch shards',
      description:
        'Server-sent events: a snapshot (`snapshot-begin`, a `shard` for each, `snapshot-end`), then every change as a `shard`, with a `bookmark` at least every 10 s of silence. Every event has an `id`: send it as `Last-Event-ID` to go on after it. `reset` says that this was not possible, and a snapshot follows. `shard-error` (problem details) or `goaway` is the last event of a stream that the server ends.',
      schema: watchEventSchema,
      example: EXAMPLE_EVENTS,
      errors: [
        'tokenInvalid',
        'filterMismatch',
        'tokenExpired',
        'lineageChanged',
        'tooManyWatchers',
        'slowConsumer',
      ],
    },
  };
}

function streamHeaders(common: NodeJS.Dict<number | string | string[]>): Record<string, string> {
  const headers = Object.entries(common).map(([name, value]) => [name, String(value)]);
  return {
    ...Object.fromEntries(headers),
    'content-type': STREAM_TYPE,
    'cache-control': 'private, no-cache',
    // nginx would hold events back to fill its buffers.
    'x-accel-buffering': 'no',
  };
}
