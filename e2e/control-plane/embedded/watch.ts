import type { ServerResponse } from 'node:http';
import { apiVersionOf, type Kind } from './kinds.ts';
import type { Matcher } from './selectors.ts';
import { StatusError } from './status.ts';
import type { Change, Store, Stored } from './store.ts';

export interface WatchRequest {
  kind: Kind;
  namespace: string;
  matches: Matcher;
  /** Absent: the state as it is now comes first, as ADDED events. */
  version: number | undefined;
  bookmarks: boolean;
  timeoutMs: number;
  /** Turns an object into the Table that the client asked for. */
  render?: (object: Stored, first: boolean) => object;
}

const BOOKMARK_EVERY_MS = 60_000;
/** kube-apiserver sends a last bookmark this long before a watch ends. */
const LAST_BOOKMARK_MS = 2_000;
const MOST_UNSENT_BYTES = 16 * 1024 * 1024;

/** Streams events until the timeout, or until the client leaves or falls too far behind; `answer` is ended in any case. */
export function serveWatch(store: Store, request: WatchRequest, answer: ServerResponse): void {
  const { kind, namespace, matches, render, timeoutMs } = request;
  const since = request.version ?? store.version;
  let first = true;

  const write = (line: string | Buffer) => {
    answer.write(line);
    // A client that does not read is cut off, and has to start again from what it has.
    if (answer.writableLength > MOST_UNSENT_BYTES) answer.destroy();
  };
  const send = (type: string, object: object) => write(`${JSON.stringify({ type, object })}\n`);
  const sendObject = (type: string, object: Stored) => {
    send(type, render ? render(object, first) : object);
    first = false;
  };
  const bookmark = () => {
    const metadata = { resourceVersion: String(store.version) };
    send('BOOKMARK', { kind: kind.kind, apiVersion: apiVersionOf(kind), metadata });
  };
  const onChange = (change: Change) => {
    const { type, entry, previous } = change;
    if (entry.version <= since) return;
    if (namespace !== '' && entry.object.metadata.namespace !== namespace) return;
    const is = type !== 'DELETED' && matches(entry.object);
    const was = previous !== undefined && matches(previous.object);
    const seen = is ? (was ? 'MODIFIED' : 'ADDED') : was ? 'DELETED' : undefined;
    if (seen === type && !render) {
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
    if (request.version === undefined) {
      for (const { object } of store.list(kind.bucket, namespace))
        if (matches(object)) sendObject('ADDED', object);
    }
    for (const change of missed) onChange(change);
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    send('ERROR', error.body);
    answer.end();
    return;
  }
  const timers = [setTimeout(finish, timeoutMs)];
  if (request.bookmarks) timers.push(setInterval(bookmark, BOOKMARK_EVERY_MS));
  if (request.bookmarks && timeoutMs > LAST_BOOKMARK_MS) {
    timers.push(setTimeout(bookmark, timeoutMs - LAST_BOOKMARK_MS));
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
