import { apiVersionOf, type Kind } from './kinds.ts';
import { fieldMatcher, labelMatcher, type Matcher } from './selectors.ts';
import { badRequest, invalid, quote, StatusError } from './status.ts';
import type { Entry, Store } from './store.ts';

export interface Page {
  entries: Entry[];
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
}

/** One page as of one resourceVersion, which the continue token carries on. */
export function listPage(store: Store, kind: Kind, namespace: string, query: URLSearchParams): Page {
  const { matches, selective } = matcher(kind, query);
  const token = query.get('continue');
  const asked = resourceVersionOf(query);
  const match = query.get('resourceVersionMatch');
  if (match !== null && asked === undefined)
    throw forbiddenMatch('resourceVersionMatch is forbidden unless resourceVersion is provided');
  if (token && asked !== undefined)
    throw badRequest('specifying resource version is not allowed when using continue');
  if (asked !== undefined && asked > store.version) throw tooLarge(asked, store.version);
  const { version, start } = token
    ? decodeToken(token)
    : { version: match === 'Exact' ? asked : undefined, start: '' };
  const snapshot = token
    ? snapshotOrOffer(store, kind, namespace, version, start)
    : store.list(kind.bucket, namespace, version);
  const rest = snapshot.filter(({ key, object }) => key > start && (!selective || matches(object)));
  // With resourceVersion=0 the real server answers from its cache, which does not page.
  const limit = asked === 0 ? 0 : limitOf(query);
  const entries = limit > 0 ? rest.slice(0, limit) : rest;
  const at = version ?? store.version;
  const metadata: Page['metadata'] = { resourceVersion: String(at), ...(kind.custom && { continue: '' }) };
  const left = rest.length - entries.length;
  if (left > 0) metadata.continue = encodeToken(at, entries.at(-1)?.key ?? start);
  if (left > 0 && !selective) metadata.remainingItemCount = left;
  return { entries, metadata };
}

/** As JSON, from what each object is encoded to already; items of built-in kinds come without kind and apiVersion. */
export function encodeList(kind: Kind, { entries, metadata }: Page): string {
  const apiVersion = apiVersionOf(kind);
  const prefix = JSON.stringify({ kind: kind.kind, apiVersion }).length;
  const items = entries.map(({ json }) => (kind.custom ? json : `{${json.slice(prefix)}`));
  const head = JSON.stringify({ kind: `${kind.kind}List`, apiVersion, metadata });
  return `${head.slice(0, -1)},"items":[${items.join(',')}]}`;
}

/** The label and field selectors of a list, watch or deletion. */
export function matcher(kind: Kind, query: URLSearchParams): { matches: Matcher; selective: boolean } {
  const labels = labelMatcher(query.get('labelSelector') ?? '');
  const fields = fieldMatcher(kind, query.get('fieldSelector') ?? '');
  const matches: Matcher = (object) => (labels?.(object) ?? true) && (fields?.(object) ?? true);
  return { matches, selective: labels !== undefined || fields !== undefined };
}

/** `resourceVersion` of a read; undefined when there is none. */
export function resourceVersionOf(query: URLSearchParams, watching = false): number | undefined {
  const asked = query.get('resourceVersion') ?? '';
  if (/^\d*$/.test(asked)) return asked === '' ? undefined : Number(asked);
  const why = `resourceVersion: Invalid value: ${quote(asked)}: strconv.ParseUint: parsing ${quote(asked)}: invalid syntax`;
  throw watching ? new StatusError(500, undefined, why) : badRequest(`invalid resource version: ${why}`);
}

export function forbiddenMatch(why: string): StatusError {
  const cause = {
    reason: 'FieldValueForbidden',
    message: `Forbidden: ${why}`,
    field: 'resourceVersionMatch',
  };
  return invalid('meta.k8s.io', 'ListOptions', '', [cause]);
}

function limitOf(query: URLSearchParams): number {
  const limit = query.get('limit') ?? '0';
  if (!/^-?\d+$/.test(limit)) throw badRequest(`strconv.ParseInt: parsing ${quote(limit)}: invalid syntax`);
  return Number(limit);
}

/** A resourceVersion that this server has not reached: the client should try again. */
function tooLarge(asked: number, current: number): StatusError {
  const message = `Timeout: Too large resource version: ${asked}, current: ${current}`;
  const causes = [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }];
  return new StatusError(504, 'Timeout', message, { causes, retryAfterSeconds: 1 });
}

const EXPIRED_TOKEN =
  'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.';

/** An expired token is answered by 410 and another token, which goes on with the state as it is by then. */
function snapshotOrOffer(
  store: Store,
  kind: Kind,
  namespace: string,
  version: number | undefined,
  start: string,
): Entry[] {
  try {
    return store.list(kind.bucket, namespace, version);
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    error.body.message = EXPIRED_TOKEN;
    error.body.metadata.continue = encodeToken(-1, start);
    throw error;
  }
}

function encodeToken(version: number, start: string): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: version, start })).toString('base64url');
}

function decodeToken(token: string): { version?: number; start: string } {
  try {
    const { rv, start } = JSON.parse(Buffer.from(token, 'base64url').toString()) as {
      rv: number;
      start: string;
    };
    return { version: rv < 0 ? undefined : rv, start };
  } catch (error) {
    throw badRequest(`invalid continue token: continue key is not valid: ${(error as Error).message}`);
  }
}
