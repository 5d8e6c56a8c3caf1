import type { KubeObject } from '@meshkit/shards/records';
import { lines } from './json-lines.ts';
import { type CallSite, protocolError, type Status, statusError } from './kube-error.ts';

/** etcd holds at most 1.5 MB an object. */
const MAX_EVENT_BYTES = 8 << 20;

export type WatchEvent<T> =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T }
  | { type: 'BOOKMARK'; resourceVersion: string };

/**
 * Decodes the body of a watch: one JSON event a line. An ERROR event is thrown, as the error that the same Status
 * would have been as an answer; so is whatever the Kubernetes API does not promise.
 * `onIdle` runs when no byte came for `idleMs`.
 */
export async function* watchEvents<T extends KubeObject>(
  call: CallSite,
  body: AsyncIterable<Uint8Array>,
  idleMs: number,
  onIdle: () => void,
): AsyncGenerator<WatchEvent<T>, void> {
  const tooLong = () => protocolError(call, `an event is larger than ${MAX_EVENT_BYTES} bytes`);
  for await (const line of lines(guarded(body, idleMs, onIdle), MAX_EVENT_BYTES, tooLong))
    yield decode<T>(call, line);
}

/** Time counts only while we wait for bytes: a consumer that takes its time is no sign of a dead peer. */
async function* guarded(
  body: AsyncIterable<Uint8Array>,
  idleMs: number,
  onIdle: () => void,
): AsyncGenerator<Uint8Array, void> {
  let waiting = true;
  const timer = setTimeout(() => waiting && onIdle(), idleMs);
  try {
    for await (const chunk of body) {
      waiting = false;
      yield chunk;
      waiting = true;
      timer.refresh();
    }
  } finally {
    clearTimeout(timer);
  }
}

function decode<T extends KubeObject>(call: CallSite, line: string): WatchEvent<T> {
  let event: { type?: string; object?: T } | null;
  try {
    event = JSON.parse(line);
  } catch (error) {
    throw protocolError(call, 'an event is not valid JSON', error);
  }
  const { type, object } = event ?? {};
  if (type === 'ERROR') {
    const status = (object ?? {}) as unknown as Status;
    throw statusError(call, { status: status.code ?? 500, body: status });
  }
  const resourceVersion = object?.metadata?.resourceVersion;
  if (!object || !resourceVersion)
    throw protocolError(call, `an event of type ${type} carries no object with a resourceVersion`);
  if (type === 'BOOKMARK') return { type, resourceVersion };
  if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') return { type, object };
  throw protocolError(call, `an event has the unknown type ${JSON.stringify(type)}`);
}
