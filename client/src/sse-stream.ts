import type { ClientHttp2Stream } from 'node:http2';
import { ShardError } from '@meshkit/shards/errors';
import { errorOfProblem } from '@meshkit/shards/problem';
import type { ShardFilter } from '@meshkit/shards/repository';
import type { Http2Origin } from './http2-origin.ts';
import { type SseBlock, SseParser } from './sse-parser.ts';
import type { WatchMessage } from './watch-message.ts';
import type { Alive, WatchStreamRequest, WatchTransport } from './watch-transport.ts';

const OPEN_TIMEOUT_MS = 10_000;

/** Server-sent events over the connection that requests use too. */
export function sseTransport(origin: Http2Origin, userAgent: string): WatchTransport {
  return async function* open(request) {
    const answer = await origin.open({
      path: `/meshkit/shards/watch?${watchQuery(request)}`,
      headers: headersOf(request, userAgent),
      signal: request.signal,
      timeoutMs: request.timeoutMs ?? OPEN_TIMEOUT_MS,
    });
    if (!('stream' in answer)) throw errorOfProblem(answer.status, parsed(String(answer.body)), origin.url);
    const { stream, headers } = answer;
    const abort = (): void => void stream.destroy();
    request.signal.addEventListener('abort', abort, { once: true });
    if (request.signal.aborted) abort();
    try {
      if (!String(headers['content-type']).startsWith('text/event-stream')) {
        const text = `${origin.url} answered with something that is no event stream; is it a MeshKit API server?`;
        throw new ShardError('internal', text);
      }
      yield* messagesOf(stream, origin.url);
    } catch (error) {
      request.signal.throwIfAborted();
      throw error;
    } finally {
      request.signal.removeEventListener('abort', abort);
      stream.destroy();
    }
  };
}

async function* messagesOf(
  stream: ClientHttp2Stream,
  url: string,
): AsyncGenerator<WatchMessage | Alive, void> {
  const parser = new SseParser();
  try {
    for await (const chunk of stream) {
      const blocks = parser.push(chunk as Buffer);
      for (const block of blocks) {
        const message = messageOf(block, url);
        if (message) yield message;
      }
      if (blocks.length === 0) yield { type: 'alive' };
    }
  } catch (error) {
    if (error instanceof ShardError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new ShardError('unavailable', `the stream of ${url} broke: ${why}`, retryOf(parser), error);
  }
  throw new ShardError('unavailable', `${url} ended the stream`, retryOf(parser));
}

/** `details.retryMs`: what the server asked for in `retry:`. */
function retryOf({ retryMs }: SseParser): Record<string, unknown> {
  return retryMs === undefined ? {} : { retryMs };
}

/** Undefined for what a newer server may say. Throws what the server ends the stream with. */
function messageOf({ event, data, id }: SseBlock, url: string): WatchMessage | undefined {
  const document = parsed(data);
  if (document === undefined) throw new ShardError('internal', `${url} sent an event that is not JSON`);
  switch (event) {
    case 'shard':
      return { ...document, event: document.type, type: 'shard', token: id };
    case 'snapshot-begin':
    case 'snapshot-end':
    case 'bookmark':
    case 'reset':
    case 'goaway':
      return { ...document, type: event, token: id };
    case 'shard-error':
      throw errorOfProblem(Number(document.status ?? 500), document, url);
    default:
      return undefined;
  }
}

function headersOf({ bearer, resumeToken }: WatchStreamRequest, userAgent: string): Record<string, string> {
  const headers: Record<string, string> = { accept: 'text/event-stream', 'user-agent': userAgent };
  if (bearer !== undefined) headers.authorization = `Bearer ${bearer}`;
  if (resumeToken !== undefined) headers['last-event-id'] = resumeToken;
  return headers;
}

function watchQuery({ filter, from, onExpired, allowCoalescing }: WatchStreamRequest): URLSearchParams {
  const query = queryOf(filter);
  if (from !== undefined) query.set('from', from);
  if (onExpired === 'fail') query.set('onExpired', onExpired);
  if (allowCoalescing !== undefined) query.set('allowCoalescing', String(allowCoalescing));
  return query;
}

/** The parameters that a filter is in a URL. */
export function queryOf(filter: ShardFilter): URLSearchParams {
  const query = new URLSearchParams();
  const { namespace, shardSet, owners = [], phases = [], zones = [], search } = filter;
  if (namespace !== undefined) query.set('namespace', namespace);
  if (shardSet !== undefined) query.set('shardSet', shardSet);
  append(query, 'owner', owners);
  append(query, 'status', phases);
  append(query, 'zone', zones);
  if (search !== undefined) query.set('search', search);
  return query;
}

/** Undefined for what is not JSON: the caller knows what to make of it. */
export function parsed(text: string) {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** A parameter may be given 100 times; more values share by commas. */
function append(query: URLSearchParams, name: string, values: readonly string[]): void {
  const size = Math.ceil(values.length / 100);
  for (let at = 0; at < values.length; at += size) query.append(name, values.slice(at, at + size).join(','));
}
