import type { ShardFilter as FilterMessage } from '@meshkit/proto/v1/shard';
import { GetRequest, ListNodesRequest, ListRequest } from '@meshkit/proto/v1/shard_service';
import { OnExpired, WatchFrom, WatchRequest } from '@meshkit/proto/v1/watch';
import { ShardError } from '@meshkit/shards/errors';
import type { z } from 'zod';
import { listQuery, nodesQuery, shardParams, shardQuery, watchQuery } from './parameters.ts';
import { validatorCompiler } from './problem-reply.ts';

/**
 * Requests of gRPC as the parameters of REST, checked by the same schemas: what one surface refuses the other does too,
 * with the same code. Everything here throws `invalidArgument` or `requestTooLarge`.
 */

/** The largest request that makes sense has 300 values of 253 characters and a token. */
const MAX_REQUEST_BYTES = 256 << 10;

export function listRequest(bytes: Uint8Array): z.output<typeof listQuery> {
  const { filter, pageSize, pageToken, minVersion } = decoded(ListRequest, bytes);
  return checked(listQuery, 'querystring', {
    ...conditions(filter),
    pageSize: pageSize === 0 ? undefined : pageSize,
    cursor: present(pageToken),
    minVersion: present(minVersion),
  });
}

export function getRequest(bytes: Uint8Array): z.output<typeof shardParams> & z.output<typeof shardQuery> {
  const { namespace, name, minVersion } = decoded(GetRequest, bytes);
  return {
    ...checked(shardParams, 'params', { namespace, name }),
    ...checked(shardQuery, 'querystring', { minVersion: present(minVersion) }),
  };
}

export function nodesRequest(bytes: Uint8Array): z.output<typeof nodesQuery> {
  const { namespace } = decoded(ListNodesRequest, bytes);
  return checked(nodesQuery, 'querystring', { namespace });
}

export function watchRequest(bytes: Uint8Array): z.output<typeof watchQuery> {
  const { filter, resumeToken, from, onExpired, allowCoalescing } = decoded(WatchRequest, bytes);
  return checked(watchQuery, 'querystring', {
    ...conditions(filter),
    resumeToken: present(resumeToken),
    from: word(from, WatchFrom.UNSPECIFIED, 'WATCH_FROM_'),
    onExpired: word(onExpired, OnExpired.UNSPECIFIED, 'ON_EXPIRED_'),
    allowCoalescing: String(allowCoalescing),
  });
}

/** Absent and empty are told apart: `owners: [""]` or `namespace: ""` is an unset variable of the caller. */
function conditions(filter: FilterMessage | undefined) {
  return {
    namespace: filter?.namespace,
    shardSet: filter?.shardSet,
    owner: listed(filter?.owners),
    status: listed(filter?.phases.map((phase) => phase.replace('PHASE_', ''))),
    zone: listed(filter?.zones),
    search: filter?.search,
  };
}

function listed(values: readonly string[] | undefined): readonly string[] | undefined {
  return values && values.length > 0 ? values : undefined;
}

/** In proto3 a text without presence is empty when it is not set. */
function present(text: string): string | undefined {
  return text === '' ? undefined : text;
}

/** `WATCH_FROM_NOW` -> `now`; a value of a newer client stays what it is, and is refused. */
function word(value: string, unspecified: string, prefix: string): string | undefined {
  return value === unspecified ? undefined : value.replace(prefix, '').toLowerCase();
}

interface Decoder<T> {
  decode(bytes: Uint8Array): T;
}

function decoded<T>(message: Decoder<T>, bytes: Uint8Array): T {
  if (bytes.length > MAX_REQUEST_BYTES) {
    throw new ShardError('requestTooLarge', `the request has more than ${MAX_REQUEST_BYTES} bytes`);
  }
  try {
    return message.decode(bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const detail = `not a valid protobuf message: ${why}`;
    throw new ShardError(
      'invalidArgument',
      `the request is ${detail}`,
      { errors: [{ pointer: '/body', detail }] },
      error,
    );
  }
}

function checked<S extends z.ZodType>(schema: S, httpPart: string, input: unknown): z.output<S> {
  const result = validatorCompiler({ schema, httpPart, method: '', url: '' })(input) as
    | { value: z.output<S> }
    | { error: ShardError };
  if ('error' in result) throw result.error;
  return result.value;
}
