import { Metadata, type StatusObject, status as statusCodes } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo } from '@meshkit/proto/rpc/error_details';
import { Status } from '@meshkit/proto/rpc/status';
import { ERRORS, type ShardError } from '@meshkit/shards/errors';
import type { Fault } from '@meshkit/shards/problem';
import { GROUP } from '@meshkit/shards/records';

/** Some clients read no more than 8 KiB of trailers in all, and every byte of a text may take three there. */
const MAX_TEXT = 600;
const MAX_VIOLATIONS = 10;
const MAX_METADATA = 20;

/**
 * An error as gRPC carries it (AIP-193): the status of the registry, and in `grpc-status-details-bin` a google.rpc.Status
 * with ErrorInfo (`reason` is the registry's code), RetryInfo where the same call may succeed later, and BadRequest where a
 * field is wrong. `op`: whose fields they are.
 */
export function grpcStatus(error: ShardError, op?: string): StatusObject {
  const code = statusCodes[ERRORS[error.code].grpc];
  const message = shortened(error.message);
  const details = [any('ErrorInfo', ErrorInfo.encode(errorInfo(error)).finish())];
  if (ERRORS[error.code].retry) {
    const { retryAfterSeconds } = error.details;
    const seconds = typeof retryAfterSeconds === 'number' ? retryAfterSeconds : 1;
    const retryDelay = { seconds: BigInt(seconds), nanos: 0 };
    details.push(any('RetryInfo', RetryInfo.encode({ retryDelay }).finish()));
  }
  const fieldViolations = violationsOf(error, op);
  if (fieldViolations.length > 0) {
    details.push(any('BadRequest', BadRequest.encode({ fieldViolations }).finish()));
  }
  const metadata = new Metadata();
  const bytes = Status.encode({ code, message, details }).finish();
  metadata.set('grpc-status-details-bin', Buffer.from(bytes));
  return { code, details: message, metadata };
}

function any(type: string, value: Uint8Array): { typeUrl: string; value: Buffer } {
  return { typeUrl: `type.googleapis.com/google.rpc.${type}`, value: Buffer.from(value) };
}

/** Details that are plain values; `errors` are field violations. */
function errorInfo({ code, details }: ShardError): ErrorInfo {
  const { errors: _errors, ...others } = details;
  const plain = Object.entries(others).flatMap(([key, value]) => textsOf(key, value));
  return { reason: code, domain: GROUP, metadata: Object.fromEntries(plain.slice(0, MAX_METADATA)) };
}

/** Metadata is flat: `resume: {cursor}` becomes `resumeCursor`. */
function textsOf(key: string, value: unknown): [string, string][] {
  if (Array.isArray(value)) return [[key, shortened(value.join(', '))]];
  if (typeof value === 'object' && value !== null) {
    const inner = Object.entries(value);
    return inner.flatMap(([part, text]) => textsOf(`${key}${part[0]?.toUpperCase()}${part.slice(1)}`, text));
  }
  if (value === undefined || value === null) return [];
  // Tokens and cursors are worth nothing when they are cut.
  return [[key, /token|cursor/i.test(key) ? String(value) : shortened(String(value))]];
}

function violationsOf({ details }: ShardError, op?: string): { field: string; description: string }[] {
  const faults = Array.isArray(details.errors) ? (details.errors as readonly Fault[]) : [];
  return faults
    .slice(0, MAX_VIOLATIONS)
    .map(({ pointer, detail }) => ({ field: fieldOf(pointer, op), description: shortened(detail) }));
}

/** What REST parameters are called here, where that is not the same name. */
const FIELDS: Record<string, string> = {
  namespace: 'filter.namespace',
  shardSet: 'filter.shard_set',
  owner: 'filter.owners',
  status: 'filter.phases',
  zone: 'filter.zones',
  search: 'filter.search',
  cursor: 'page_token',
};
/** Those whose namespace is no condition of a filter. */
const UNFILTERED = ['nodes', 'status', 'access'];

/** `/query/owner/3` -> `filter.owners[3]`; places that have no field keep their pointer. */
function fieldOf(pointer: string, op = ''): string {
  if (pointer.startsWith('/body/')) return bodyField(pointer);
  const [, part, name = '', index] = /^\/(query|path)\/(\w+)(?:\/(\d+))?$/.exec(pointer) ?? [];
  if (part === undefined) return pointer;
  const isPlain = part === 'path' || (name === 'namespace' && UNFILTERED.includes(op));
  const field = (isPlain ? undefined : FIELDS[name]) ?? snakeCase(name);
  return index === undefined ? field : `${field}[${index}]`;
}

/** `/body/changes/0/shardSet` -> `changes[0].shard_set`; what is in a manifest keeps its names. */
function bodyField(pointer: string): string {
  const [first = '', ...path] = pointer.split('/').slice(2);
  const inManifest = first === 'manifests';
  return path.reduce(
    (field, step) =>
      /^\d+$/.test(step) ? `${field}[${step}]` : `${field}.${inManifest ? step : snakeCase(step)}`,
    inManifest ? 'manifests_json' : snakeCase(first),
  );
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Cut texts may end in half a character, which cannot be percent-encoded. */
function shortened(text: string): string {
  return text.length <= MAX_TEXT ? text.toWellFormed() : `${text.slice(0, MAX_TEXT - 1).toWellFormed()}…`;
}
