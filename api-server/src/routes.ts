import { ShardError } from '@meshkit/shards/errors';
import type { Operation } from './operation.ts';

/** What there is to ask, for those who asked for something else. */

const DOCUMENT = '/openapi.json';

/** Methods of a path, for `Allow`; empty when there is no such path. */
export function allowedMethods(operations: readonly Operation[], url: string): string[] {
  const path = url.split('?', 1)[0] ?? '';
  // RFC 9110, section 9.3.7: the server as a whole.
  if (path === '*' || path === DOCUMENT) return ['GET', 'HEAD', 'OPTIONS'];
  const found = operations.filter((operation) => matchesTemplate(operation.url, path));
  // The router prefers fixed parts to parameters.
  const [exact] = found.sort((a, b) => parameters(a.url) - parameters(b.url));
  if (!exact) return [];
  const head = exact.method === 'GET' && !('stream' in exact) ? ['HEAD'] : [];
  return [exact.method, ...head, 'OPTIONS'];
}

/** `methodNotAllowed` with the methods that there are, or `notFound`. */
export function noSuchRoute(
  operations: readonly Operation[],
  { method, url }: { method: string; url: string },
): ShardError {
  const allow = allowedMethods(operations, url);
  if (allow.length > 0) {
    const detail = `${method} is not possible here; ${allow.join(', ')} are`;
    return new ShardError('methodNotAllowed', detail, { allow, errors: [{ pointer: '/method', detail }] });
  }
  const path = url.split('?', 1)[0] ?? '';
  return new ShardError('notFound', `there is nothing at ${path.slice(0, 200)}`, {
    errors: [{ pointer: '/path', detail: 'no such route' }],
  });
}

function matchesTemplate(template: string, path: string): boolean {
  const [wanted, given] = [template.split('/'), path.split('/')];
  return (
    wanted.length === given.length &&
    wanted.every((part, at) => (part.startsWith(':') ? given[at] !== '' : part === given[at]))
  );
}

function parameters(template: string): number {
  return template.split('/:').length - 1;
}
