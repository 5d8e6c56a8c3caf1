import type { ServerResponse } from 'node:http';
import { JSONPath } from 'jsonpath-plus';
import type { Call } from './call.ts';
import type { Column, Kind } from './kinds.ts';
import { at } from './schema.ts';
import { badRequest, cause, invalid, notImplemented, quote, StatusError } from './status.ts';
import type { Change, Store, Stored } from './store.ts';

/** A longer timer would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const BOOKMARK_EVERY_MS = 60_000;
/** kube-apiserver sends a last bookmark this long before a watch ends. */
const LAST_BOOKMARK_MS = 2_000;
const MOST_UNSENT_BYTES = 16 * 1024 * 1024;
const META = { apiVersion: 'meta.k8s.io/v1' };

/** One page of the state as it was when the first one was asked for, as JSON. */
export function list(store: Store, kind: Kind, call: Call): string {
  const { namespace, query, view } = call;
  const matches = fieldMatcher(kind, query);
  const asked = query.get('resourceVersion') ?? '';
  if ((asked !== '' && asked !== '0') || query.has('resourceVersionMatch'))
    throw notImplemented('lists of the state at a resourceVersion');
  const text = query.get('limit') ?? '0';
  if (!/^-?\d+$/.test(text)) throw badRequest(`strconv.ParseInt: parsing ${quote(text)}: invalid syntax`);
  // With resourceVersion=0 the real server answers from its cache, which does not page.
  const limit = Number(text) > 0 && asked === '' ? Number(text) : Number.POSITIVE_INFINITY;
  const now = () => store.list(kind.bucket, namespace).filter(({ object }) => matches?.(object) ?? true);
  const scope = `${kind.bucket}/${namespace}`;
  const { page, version, left, next } = store.page(scope, query.get('continue'), limit, now);
  const metadata = {
    resourceVersion: String(version),
    continue: left > 0 ? next : kind.custom ? '' : undefined,
    remainingItemCount: left > 0 && !matches ? left : undefined,
  };
  const objects = page.map(({ object }) => object);
  if (view === 'Table') return JSON.stringify(table(kind, objects, metadata, query));
  if (view) return JSON.stringify({ kind: `${view}List`, ...META, metadata, items: objects.map(partial) });
  // From what each object is encoded to already; items of built-in kinds come without kind and apiVersion.
  const { apiVersion } = kind;
  const prefix = JSON.stringify({ kind: kind.kind, apiVersion }).length;
  const items = page.map(({ json }) => (kind.custom ? json : `{${json.slice(prefix)}`));
  const head = JSON.stringify({ kind: `${kind.kind}List`, apiVersion, metadata });
  return `${head.slice(0, -1)},"items":[${items.join(',')}]}`;
}

/** Streams events until the timeout, or until the client leaves or falls too far behind; `answer` is ended in any case. */
export function watch(store: Store, kind: Kind, call: Call, answer: ServerResponse): void {
  const { namespace, query, view } = call;
  const asked = query.get('resourceVersion') || '0';
  const why = `strconv.ParseUint: parsing ${quote(asked)}: invalid syntax`;
  if (!/^\d+$/.test(asked)) throw new StatusError(500, undefined, `resourceVersion: Invalid value: ${why}`);
  // Absent or 0: the state as it is now comes first, as ADDED events.
  const since = Number(asked) || store.version;
  const matches = fieldMatcher(kind, query) ?? (() => true);
  // The words of a server without the feature; clients then list and watch.
  const unknown = 'Forbidden: sendInitialEvents is forbidden unless the WatchList feature gate is enabled';
  const options = { group: 'meta.k8s.io', plural: 'ListOptions' };
  if (query.has('sendInitialEvents'))
    throw invalid(options, '', [cause('Forbidden', 'sendInitialEvents', unknown)]);
  let first = true;

  const write = (line: string | Buffer) => {
    answer.write(line);
    // A client that does not read is cut off, and has to start again from what it has.
    if (answer.writableLength > MOST_UNSENT_BYTES) answer.destroy();
  };
  const send = (type: string, object: object) => write(`${JSON.stringify({ type, object })}\n`);
  const sendObject = (type: string, object: Stored) => {
    send(type, shown(kind, call, object, first));
    first = false;
  };
  const bookmark = () => {
    const metadata = { resourceVersion: String(store.version) };
    send('BOOKMARK', { kind: kind.kind, apiVersion: kind.apiVersion, metadata });
  };
  const onChange = (change: Change) => {
    const { type, entry, previous } = change;
    const elsewhere = namespace !== '' && entry.object.metadata.namespace !== namespace;
    if (elsewhere || entry.version <= since) return;
    const is = type !== 'DELETED' && matches(entry.object);
    const was = previous !== undefined && matches(previous.object);
    const seen = is ? (was ? 'MODIFIED' : 'ADDED') : was ? 'DELETED' : undefined;
    if (seen === type && !view) {
      change.line ??= Buffer.from(`{"type":"${type}","object":${entry.json}}\n`);
      write(change.line);
    } else if (seen && is) {
      sendObject(seen, entry.object);
    } else if (seen && previous) {
      // The last state that matched, under the version at which it no longer did.
      const metadata = { ...previous.object.metadata, resourceVersion: String(entry.version) };
      sendObject(seen, { ...previous.object, metadata });
    }
  };

  answer.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
  answer.flushHeaders();
  try {
    const missed = store.follow(kind.bucket, since, onChange);
    for (const { object } of asked === '0' ? store.list(kind.bucket, namespace) : [])
      if (matches(object)) sendObject('ADDED', object);
    for (const change of missed) onChange(change);
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    send('ERROR', error.body);
    answer.end();
    return;
  }
  // Without a wish, the real server picks between 30 and 60 minutes.
  const seconds = Number(query.get('timeoutSeconds') ?? 0) || 1800 + Math.floor(Math.random() * 1800);
  const timeoutMs = Math.min(seconds * 1000, LONGEST_TIMER_MS);
  const timers = [setTimeout(finish, timeoutMs)];
  if (query.get('allowWatchBookmarks') === 'true') {
    timers.push(setInterval(bookmark, BOOKMARK_EVERY_MS));
    if (timeoutMs > LAST_BOOKMARK_MS) timers.push(setTimeout(bookmark, timeoutMs - LAST_BOOKMARK_MS));
  }
  answer.once('close', release);

  function release(): void {
    store.unfollow(kind.bucket, onChange);
    for (const timer of timers) clearTimeout(timer);
  }
  /** Lets go of the store first: an answer that was ended takes no more events, and closes some time later. */
  function finish(): void {
    release();
    answer.end();
  }
}

/** `metadata.name=a,status.owner!=b` over what the kind makes selectable; undefined when nothing is asked. */
function fieldMatcher(kind: Kind, query: URLSearchParams): ((object: Stored) => boolean) | undefined {
  if (query.get('labelSelector')) throw notImplemented('label selectors');
  const selector = query.get('fieldSelector') ?? '';
  const parts = selector.split(',').filter(Boolean);
  const terms = parts.map((part) => {
    const [, field, sign, value = ''] = /^([^=!]+)(==?|!=)(.*)$/.exec(part) ?? [];
    if (!field) throw badRequest(`invalid selector: '${selector}'; can't understand '${part}'`);
    if (!kind.selectable.includes(field)) throw badRequest(`field label not supported: ${field}`);
    const path = field.split('.');
    return (object: Stored) => (String(at(object, ...path) ?? '') === value) === (sign !== '!=');
  });
  return terms.length === 0 ? undefined : (object) => terms.every((holds) => holds(object));
}

/** One object as the client wants it; of a watch, only the `first` Table has columns. */
export function shown(kind: Kind, { view, query }: Call, object: Stored, first = true): object {
  const { resourceVersion } = object.metadata;
  if (view === 'Table') return table(kind, [object], { resourceVersion }, query, first);
  return view ? partial(object) : object;
}

function partial({ metadata }: Stored): object {
  return { kind: 'PartialObjectMetadata', ...META, metadata };
}

/** What `kubectl get` asks for, so that the server decides on columns. */
function table(
  kind: Kind,
  objects: Stored[],
  metadata: object,
  query: URLSearchParams,
  first = true,
): object {
  const columns = [{ name: 'Name', type: 'string', jsonPath: '.metadata.name' }, ...kind.columns];
  const columnDefinitions = columns.map(({ name, type, priority = 0 }: Column) => {
    return { name, type, format: name === 'Name' ? 'name' : '', description: '', priority };
  });
  const include = query.get('includeObject');
  const rows = objects.map((object) => ({
    cells: columns.map((column) => cell(column, object)),
    object: include === 'None' ? null : include === 'Object' ? object : partial(object),
  }));
  return { kind: 'Table', ...META, metadata, columnDefinitions: first ? columnDefinitions : null, rows };
}

function cell({ type, jsonPath }: Column, object: Stored): unknown {
  const [value = null] = JSONPath<unknown[]>({ path: `$${jsonPath}`, json: object, eval: 'safe' });
  if (type !== 'date' || !value) return typeof value === 'object' && value ? JSON.stringify(value) : value;
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(String(value))) / 1000));
  // kubectl's units begin at two minutes, three hours and two days; its smaller second unit is left out.
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 10_800) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}
