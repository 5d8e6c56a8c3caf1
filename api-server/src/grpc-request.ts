import { GetAccessRequest } from '@meshkit/proto/v1/access';
import { DiffMode, DiffRequest } from '@meshkit/proto/v1/diff';
import { HistoryRequest } from '@meshkit/proto/v1/history';
import type { ShardFilter as FilterMessage } from '@meshkit/proto/v1/shard';
import { GetRequest, ListNodesRequest, ListRequest } from '@meshkit/proto/v1/shard_service';
import { GetStatusRequest } from '@meshkit/proto/v1/status';
import { type KnownShard, OnExpired, WatchFrom, WatchRequest } from '@meshkit/proto/v1/watch';
import { ShardError } from '@meshkit/shards/errors';
import type { KnownShards, WatchRequest as Watching } from '@meshkit/shards/watch';
import type { z } from 'zod';
import {
  accessQuery,
  diffQuery,
  historyQuery,
  listQuery,
  nodesQuery,
  shardParams,
  shardQuery,
  statusQuery,
  watchQuery,
} from './parameters.ts';
import { validatorCompiler } from './problem-reply.ts';

/**
 * Requests of gRPC as the parameters of REST, checked by the same schemas: what one surface refuses the other does too,
 * with the same code. Everything here throws `invalidArgument` or `requestTooLarge`.
 */

/** The largest request that makes sense has 300 values of 253 characters and a token. */
const MAX_REQUEST_BYTES = 256 << 10;
/** A watch may say what it has: some 80 bytes for each shard. */
export const MAX_WATCH_BYTES = 4 << 20;

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

export const nodesRequest = inNamespace(ListNodesRequest, nodesQuery);
export const accessRequest = inNamespace(GetAccessRequest, accessQuery);
export const statusRequest = inNamespace(GetStatusRequest, statusQuery);

function inNamespace<S extends z.ZodType>(message: Decoder<{ namespace?: string }>, query: S) {
  return (bytes: Uint8Array): z.output<S> => {
    const { namespace } = decoded(message, bytes);
    return checked(query, 'querystring', { namespace });
  };
}

export function diffRequest(bytes: Uint8Array): z.output<typeof diffQuery> {
  const { filter, from, to, mode, pageSize, pageToken } = decoded(DiffRequest, bytes);
  return checked(diffQuery, 'querystring', {
    ...conditions(filter),
    from: present(from),
    to: present(to),
    mode: word(mode, DiffMode.UNSPECIFIED, 'DIFF_MODE_'),
    pageSize: pageSize === 0 ? undefined : pageSize,
    cursor: present(pageToken),
  });
}

export function historyRequest(
  bytes: Uint8Array,
): z.output<typeof shardParams> & z.output<typeof historyQuery> {
  const { namespace, name, pageSize, pageToken, since } = decoded(HistoryRequest, bytes);
  return {
    ...checked(shardParams, 'params', { namespace, name }),
    ...checked(historyQuery, 'querystring', {
      pageSize: pageSize === 0 ? undefined : pageSize,
      cursor: present(pageToken),
      since: present(since),
    }),
  };
}

/** As REST's, and with `diff`, which only makes sense together with what the caller has. */
export function watchRequest(
  bytes: Uint8Array,
): Omit<z.output<typeof watchQuery>, 'onExpired'> & Pick<Watching, 'onExpired' | 'known'> {
  const { filter, resumeToken, from, onExpired, allowCoalescing, known } = decoded(
    WatchRequest,
    bytes,
    MAX_WATCH_BYTES,
  );
  const isDiff = onExpired === OnExpired.DIFF;
  const query = checked(watchQuery, 'querystring', {
    ...conditions(filter),
    resumeToken: present(resumeToken),
    from: word(from, WatchFrom.UNSPECIFIED, 'WATCH_FROM_'),
    onExpired: isDiff ? undefined : word(onExpired, OnExpired.UNSPECIFIED, 'ON_EXPIRED_'),
    allowCoalescing: String(allowCoalescing),
  });
  return isDiff ? { ...query, onExpired: 'diff', known: knownShards(known) } : query;
}

function knownShards(known: readonly KnownShard[]): KnownShards {
  return new Map(
    known.map(({ namespace, name, uid, generation, version }) => [
      `${namespace}/${name}`,
      { uid, generation: Number(generation), version: Number(version) },
    ]),
  );
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
export function present(text: string): string | undefined {
  return text === '' ? undefined : text;
}

/** `WATCH_FROM_NOW` -> `now`; a value of a newer client stays what it is, and is refused. */
function word(value: string, unspecified: string, prefix: string): string | undefined {
  return value === unspecified ? undefined : value.replace(prefix, '').toLowerCase();
}

interface Decoder<T> {
  decode(bytes: Uint8Array): T;
}

export function decoded<T>(message: Decoder<T>, bytes: Uint8Array, limit = MAX_REQUEST_BYTES): T {
  if (bytes.length > limit) {
    throw new ShardError('requestTooLarge', `the request has more than ${limit} bytes`);
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

export function checked<S extends z.ZodType>(schema: S, httpPart: string, input: unknown): z.output<S> {
  const result = validatorCompiler({ schema, httpPart, method: '', url: '' })(input) as
    | { value: z.output<S> }
    | { error: ShardError };
  if ('error' in result) throw result.error;
  return result.value;
}
