import type { IncomingMessage } from 'node:http';
import { parse } from 'yaml';
import type { WriteOptions } from './decode.ts';
import type { Kind } from './kinds.ts';
import { decodeProtobuf } from './protobuf.ts';
import type { Attributes } from './rbac.ts';
import type { Preconditions } from './resources.ts';
import { isObject, type Json } from './schema.ts';
import { selectedName } from './selectors.ts';
import { badRequest, invalid, notImplemented, StatusError, unsupportedValue } from './status.ts';

/** What a method and a path mean, as kube-apiserver's RequestInfo. */
export interface Call extends Attributes {
  version: string;
  query: URLSearchParams;
  dryRun: boolean;
}

const VERBS: Record<string, string | undefined> = {
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};
const MOST_BODY_BYTES = 3 * 1024 * 1024;
const BODY_TYPES = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf'];
const PATCH_TYPES = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/apply-patch+yaml',
];

/** Undefined when the URL is malformed. */
export function parseCall(method: string, url: string): Call | undefined {
  try {
    return callOf(method, new URL(url, 'https://kubernetes'));
  } catch (error) {
    if (error instanceof URIError || error instanceof TypeError) return undefined;
    throw error;
  }
}

function callOf(method: string, { pathname: path, searchParams: query }: URL): Call {
  const encoded = path.split('/').filter((step) => step !== '');
  const [root, ...rest] = encoded.map(decodeURIComponent);
  const [group = '', version = '', ...steps] = root === 'api' ? ['', ...rest] : rest;
  const common = { query, dryRun: query.has('dryRun'), group, version };
  if ((root !== 'api' && root !== 'apis') || steps.length === 0) {
    const verb = method === 'HEAD' ? 'get' : method.toLowerCase();
    return { ...common, verb, path, group: '', resource: '', namespace: '', name: '' };
  }
  const [resource = '', name = '', subresource] =
    steps[0] === 'namespaces' && steps.length > 2 ? steps.slice(2) : steps;
  const namespace = steps[0] === 'namespaces' ? (steps[1] ?? '') : '';
  const target = { ...common, resource, subresource, namespace, name };
  if (method !== 'GET' && method !== 'HEAD') {
    const verb = VERBS[method] ?? '';
    return { ...target, verb: verb === 'delete' && name === '' ? 'deletecollection' : verb };
  }
  if (name !== '') return { ...target, verb: 'get' };
  const watching = query.get('watch') === 'true' || query.get('watch') === '1';
  return {
    ...target,
    verb: watching ? 'watch' : 'list',
    name: selectedName(query.get('fieldSelector') ?? '') ?? '',
  };
}

/** Throws 413 beyond what kube-apiserver takes. */
async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MOST_BODY_BYTES) {
      const message = `Request entity too large: limit is ${MOST_BODY_BYTES}`;
      throw new StatusError(413, 'RequestEntityTooLarge', message);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The object that the body is. */
export async function readObject(request: IncomingMessage, kind: string): Promise<Json> {
  const type = contentType(request);
  if (!BODY_TYPES.includes(type || 'application/json')) throw unsupported(BODY_TYPES);
  const bytes = await readBody(request);
  if (type === 'application/vnd.kubernetes.protobuf') return decodeProtobuf(bytes);
  const text = bytes.toString();
  const unrecognized = (why: string) =>
    badRequest(`the object provided is unrecognized (must be of type ${kind}): ${why}`);
  let body: unknown;
  try {
    body = type === 'application/yaml' ? parse(text) : JSON.parse(text);
  } catch (error) {
    throw unrecognized(`couldn't get version/kind; json parse error: ${(error as Error).message}`);
  }
  if (!isObject(body)) throw unrecognized("couldn't get version/kind; json parse error: not an object");
  return body;
}

/** A merge patch. Strategic ones of built-in kinds are the same here, as long as they name no list that merges. */
export async function readPatch(request: IncomingMessage, kind: Kind): Promise<Json> {
  const type = contentType(request);
  const strategic = type === 'application/strategic-merge-patch+json' && !kind.custom;
  if (type === 'application/json-patch+json') throw notImplemented('JSON patch');
  if (type.startsWith('application/apply-patch')) throw notImplemented('server-side apply');
  if (type !== 'application/merge-patch+json' && !strategic) throw unsupported(PATCH_TYPES);
  const text = (await readBody(request)).toString();
  const merges = /"(\$\w+|ownerReferences|finalizers|secrets|imagePullSecrets)" *:/.test(text);
  if (strategic && merges) throw notImplemented('strategic merge patch of lists');
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw badRequest('invalid JSON patch');
  }
  if (isObject(body)) return body;
  throw badRequest('error decoding patch: json: cannot unmarshal it into a map[string]interface {}');
}

export function writeOptions({ query }: Call, request: IncomingMessage, warnings: string[]): WriteOptions {
  const fieldValidation = query.get('fieldValidation') || 'Warn';
  checkOption('fieldValidation', fieldValidation, ['', 'Ignore', 'Strict', 'Warn']);
  for (const directive of query.getAll('dryRun')) checkOption('dryRun', directive, ['All']);
  const agent = request.headers['user-agent']?.split('/')[0] || 'unknown';
  const manager = query.get('fieldManager') ?? agent;
  return { dryRun: query.has('dryRun'), manager, fieldValidation, warnings };
}

export interface DeleteOptions {
  preconditions?: Preconditions;
  dryRun: boolean;
}

interface SentDeleteOptions {
  kind?: string;
  preconditions?: Preconditions;
  propagationPolicy?: string;
  dryRun?: string[];
}

/** From body and query. */
export async function deleteOptions({ query }: Call, request: IncomingMessage): Promise<DeleteOptions> {
  const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
  const sent = encoding !== undefined || Number(length ?? 0) > 0;
  const body: SentDeleteOptions = sent ? await readObject(request, 'DeleteOptions') : {};
  const { kind = 'DeleteOptions', preconditions, dryRun = [], propagationPolicy } = body;
  if (kind !== 'DeleteOptions') throw badRequest(`no kind ${kind} is registered`);
  const policy = propagationPolicy ?? query.get('propagationPolicy') ?? 'Background';
  checkOption('propagationPolicy', policy, ['Foreground', 'Background', 'Orphan', 'nil'], 'DeleteOptions');
  if (policy === 'Foreground' || policy === 'Orphan') throw notImplemented(`propagationPolicy ${policy}`);
  const directives = [...dryRun, ...query.getAll('dryRun')];
  for (const directive of directives) checkOption('dryRun', directive, ['All'], 'DeleteOptions');
  return { preconditions, dryRun: directives.length > 0 };
}

function checkOption(field: string, value: string, supported: string[], kind = 'CreateOptions'): void {
  if (supported.includes(value)) return;
  const cause = unsupportedValue(field, field === 'dryRun' ? [value] : value, supported);
  throw invalid('meta.k8s.io', kind, '', [cause]);
}

function contentType(request: IncomingMessage): string {
  return request.headers['content-type']?.split(';')[0]?.trim() ?? '';
}

function unsupported(accepted: readonly string[]): StatusError {
  const message = `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`;
  return new StatusError(415, 'UnsupportedMediaType', message);
}
