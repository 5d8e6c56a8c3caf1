import { ShardError } from '@meshkit/shards/errors';
import { invalid } from '@meshkit/shards/problem';
import type { FastifyRequest } from 'fastify';

const MAX_URL_LENGTH = 8_192;
const MAX_HEADER_BYTES = 16_384;
/** Where no body is read: what a careless client may send without being told off. */
export const MAX_BODY_BYTES = 65_536;
/** Kubernetes names have at most 253 characters; the rest is room for percent-encoding. */
export const MAX_PARAMETER_LENGTH = 1_024;
/** Of one parameter; ten values by commas in each still make no more than `parseShardFilter` takes. */
export const MAX_REPEATS = 100;

/** Throws `uriTooLong`, `headersTooLarge`, `requestTooLarge`, or `invalidArgument` for a missing Host. */
export function refuseTooMuch({ url, raw, headers, routeOptions }: FastifyRequest): void {
  if (url.length > MAX_URL_LENGTH) {
    throw new ShardError('uriTooLong', `the URL has more than ${MAX_URL_LENGTH} characters`, {
      errors: [{ pointer: '/path', detail: `at most ${MAX_URL_LENGTH} characters, the query included` }],
    });
  }
  const bytes = raw.rawHeaders.reduce((sum, text) => sum + text.length, 0);
  if (bytes > MAX_HEADER_BYTES) {
    const largest = Object.entries(headers).sort((a, b) => String(b[1]).length - String(a[1]).length)[0];
    throw new ShardError('headersTooLarge', `the headers have more than ${MAX_HEADER_BYTES} bytes`, {
      errors: [{ pointer: `/header/${largest?.[0].slice(0, 100) ?? ''}`, detail: 'is the largest' }],
    });
  }
  const maxBytes = routeOptions.bodyLimit ?? MAX_BODY_BYTES;
  if (Number(headers['content-length'] ?? 0) > maxBytes) {
    throw new ShardError('requestTooLarge', `the body has more than ${maxBytes} bytes`, {
      errors: [{ pointer: '/body', detail: `at most ${maxBytes} bytes` }],
    });
  }
  if (raw.httpVersionMajor < 2 && headers.host === undefined) {
    throw invalid([{ pointer: '/header/host', detail: 'is missing' }]);
  }
}

/** Throws `invalidArgument` for a parameter that is repeated too often. */
export function refuseRepeats({ query }: FastifyRequest): void {
  for (const [name, values] of Object.entries(query as Record<string, string | string[]>)) {
    if (typeof values === 'string' || values.length <= MAX_REPEATS) continue;
    const detail = `give it ${MAX_REPEATS} times at most, with several values by commas`;
    throw invalid([{ pointer: `/query/${name.slice(0, 100)}`, detail }]);
  }
}
