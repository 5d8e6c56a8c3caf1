import type { IncomingMessage } from 'node:http';
import type { Attributes, UserInfo } from './access.ts';
import type { Kind } from './kinds.ts';
import { isObject, type Json } from './schema.ts';
import { badRequest, invalid, notImplemented, StatusError, unsupportedValue } from './status.ts';

/** A request understood, as kube-apiserver's RequestInfo. */
export interface Call extends Attributes {
  readonly request: IncomingMessage;
  readonly query: URLSearchParams;
  readonly version: string;
  user: UserInfo;
  dryRun: boolean;
  /** For managedFields. */
  readonly manager: string;
  /** For the client, of what was dropped. */
  readonly warnings: string[];
  /** How objects are to be shown: `kubectl get` asks for Tables. */
  view?: 'Table' | 'PartialObjectMetadata';
}

const VERBS = { GET: 'get', HEAD: 'get', POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };
const MOST_BODY_BYTES = 3 * 1024 * 1024;
const OPTIONS = {
  dryRun: ['All'],
  fieldValidation: ['', 'Ignore', 'Warn'],
  propagationPolicy: ['Foreground', 'Background', 'Orphan'],
};
/** Bodies that only the real one reads. */
const ELSEWHERE: Record<string, string | undefined> = {
  'application/yaml': 'bodies in YAML',
  'application/vnd.kubernetes.protobuf': 'protobuf, which this command of kubectl speaks',
  'application/json-patch+json': 'JSON patch',
  'application/apply-patch+yaml': 'server-side apply',
  'application/strategic-merge-patch+json': 'strategic merge patch',
};

/** Throws TypeError or URIError when the URL is malformed. */
export function parseCall(request: IncomingMessage): Call {
  const { pathname: path, searchParams: query } = new URL(request.url ?? '/', 'https://kubernetes');
  const [root = '', ...rest] = path.split('/').filter(Boolean).map(decodeURIComponent);
  const [group = '', version = '', ...steps] = root === 'api' ? ['', ...rest] : rest;
  const { method = 'GET' } = request;
  const verb = VERBS[method as keyof typeof VERBS] ?? '';
  const common = {
    ...{ request, query, verb, version, user: { username: '', groups: [] }, warnings: [] },
    dryRun: query.has('dryRun'),
    manager: query.get('fieldManager') ?? request.headers['user-agent']?.split('/')[0] ?? 'unknown',
  };
  if (!/^apis?$/.test(root) || steps.length === 0) {
    const asked = verb === 'get' ? verb : method.toLowerCase();
    return { ...common, verb: asked, path, group: '', resource: '', namespace: '', name: '' };
  }
  const scoped = steps[0] === 'namespaces';
  const [resource = '', name = '', subresource] = scoped && steps.length > 2 ? steps.slice(2) : steps;
  const call = { ...common, group, resource, subresource, name, namespace: (scoped && steps[1]) || '' };
  if (name !== '' || !['get', 'delete'].includes(verb)) return call;
  if (verb === 'delete') return { ...call, verb: 'deletecollection' };
  const watching = /^(true|1)$/.test(query.get('watch') ?? '');
  // Authorization treats a list of one name like a get.
  const [, selected = ''] = /(?:^|,)metadata\.name==?([^,]+)/.exec(query.get('fieldSelector') ?? '') ?? [];
  return { ...call, verb: watching ? 'watch' : 'list', name: selected };
}

/** The object, patch or options that the body is; `{}` for none. Throws 400, 413, 415, and 501. */
export async function readBody({ verb, request }: Call, kind?: Kind): Promise<Json> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    const message = `Request entity too large: limit is ${MOST_BODY_BYTES}`;
    if (size > MOST_BODY_BYTES) throw new StatusError(413, 'RequestEntityTooLarge', message);
    chunks.push(chunk);
  }
  if (size === 0 && verb.startsWith('delete')) return {};
  const wanted = verb === 'patch' ? 'application/merge-patch+json' : 'application/json';
  const type = request.headers['content-type']?.split(';')[0]?.trim() || 'application/json';
  if (type !== wanted) {
    const elsewhere = kind?.custom && type.startsWith('application/strategic') ? undefined : ELSEWHERE[type];
    if (elsewhere) throw notImplemented(elsewhere);
    const message = `the body of the request was in an unknown format - accepted media types include: ${wanted}`;
    throw new StatusError(415, 'UnsupportedMediaType', message);
  }
  let body: unknown;
  try {
    body = JSON.parse(Buffer.concat(chunks).toString());
  } catch (error) {
    throw badRequest(`the object provided is unrecognized: ${(error as Error).message}`);
  }
  if (!isObject(body)) throw badRequest('the object provided is unrecognized: not an object');
  return body;
}

/** Throws 422 for values that the options of a write, or of the DeleteOptions sent as its body, do not have. */
export function checkOptions({ verb, query }: Call, sent: Json = {}): void {
  if (query.get('fieldValidation') === 'Strict') throw notImplemented('strict field validation');
  const plural = verb.startsWith('delete') ? 'DeleteOptions' : 'CreateOptions';
  for (const [field, supported] of Object.entries(OPTIONS)) {
    for (const value of [...query.getAll(field), sent[field] ?? []].flat()) {
      if (value === 'Foreground' || value === 'Orphan') throw notImplemented(`propagationPolicy ${value}`);
      const cause = unsupportedValue(field, field === 'dryRun' ? [value] : value, supported);
      if (!supported.includes(String(value))) throw invalid({ group: 'meta.k8s.io', plural }, '', [cause]);
    }
  }
}

/** What the client likes best of what this server has; throws 406 for nothing. */
export function viewOf({ request }: Call): Call['view'] {
  for (const accepted of (request.headers.accept ?? '*/*').split(',')) {
    const [type = '', ...parameters] = accepted.split(';').map((part) => part.trim());
    const [, as] = /;as=(\w+?)(?:List)?;/.exec(`;${parameters.join(';')};`) ?? [];
    if ((as === 'Table' || as === 'PartialObjectMetadata') && parameters.includes('v=v1')) return as;
    if (!as && ['application/json', 'application/*', '*/*'].includes(type)) return undefined;
  }
  const message = 'only the following media types are accepted: application/json';
  throw new StatusError(406, 'NotAcceptable', message);
}
