import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';

export interface ListLoad {
  /** Origin. */
  url: string;
  ca: string;
  headers: Record<string, string>;
  /** `:path` of the first page. */
  path: string;
  /** `cursor`: the `nextCursor` of a page names the next one; absent: one answer is all. */
  paged: boolean;
  /** Send back the entity tag of the answer before. */
  conditional?: boolean;
  clients: number;
  /** Lists per client; absent: for as long as `forMs`. */
  times?: number;
  forMs?: number;
  /** Wait between two lists of a client. */
  pauseMs?: number;
}

export interface ListResult {
  /** Milliseconds from the first request to the last byte of the last page. */
  ms: number[];
  notModified: number;
  /** Of the last list. */
  items: number;
  /** Of the last list, all pages. */
  bytes: number;
}

const CONNECTION_WINDOW = 1 << 28;

/** Lists over and over; each client has a connection of its own, as separate programs do. */
export async function runLists(load: ListLoad): Promise<ListResult> {
  const results = await Promise.all(Array.from({ length: load.clients }, () => runClient(load)));
  const last = results[0]!;
  return {
    ms: results.flatMap(({ ms }) => ms),
    notModified: results.reduce((sum, { notModified }) => sum + notModified, 0),
    items: last.items,
    bytes: last.bytes,
  };
}

async function runClient(load: ListLoad): Promise<ListResult> {
  const { url, ca, times = Number.POSITIVE_INFINITY, forMs = Number.POSITIVE_INFINITY, pauseMs } = load;
  const session = connect(url, { ca, settings: { initialWindowSize: CONNECTION_WINDOW, enablePush: false } });
  const failed = Promise.withResolvers<never>();
  session.on('error', failed.reject);
  failed.promise.catch(() => undefined);
  session.once('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW));
  const result: ListResult = { ms: [], notModified: 0, items: 0, bytes: 0 };
  const until = performance.now() + forMs;
  let etag: string | undefined;
  try {
    for (let at = 0; at < times && performance.now() < until; at++) {
      const started = performance.now();
      const pages = await Promise.race([readAll(session, load, etag), failed.promise]);
      result.ms.push(performance.now() - started);
      const first = pages[0]!;
      if (load.conditional) etag = first.etag;
      if (first.status === 304) result.notModified += 1;
      else Object.assign(result, measure(pages));
      if (pauseMs) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  } finally {
    session.destroy();
  }
  return result;
}

interface Page {
  status: number;
  etag?: string;
  body: Buffer;
}

async function readAll(
  session: ClientHttp2Session,
  load: ListLoad,
  etag: string | undefined,
): Promise<Page[]> {
  const pages: Page[] = [];
  let path = load.path;
  for (;;) {
    const headers = etag === undefined ? load.headers : { ...load.headers, 'if-none-match': etag };
    const page = await get(session, path, headers);
    pages.push(page);
    if (page.status === 304) return pages;
    if (page.status !== 200)
      throw new Error(`${path} answered ${page.status}: ${page.body.toString().slice(0, 500)}`);
    const cursor = load.paged ? cursorOf(page.body) : undefined;
    if (cursor === undefined) return pages;
    path = `${load.path}&cursor=${encodeURIComponent(cursor)}`;
  }
}

/** What follows the items is short: the client reads the end of a page and does not pay for parsing all of it. */
function cursorOf(body: Buffer): string | undefined {
  const at = body.lastIndexOf('"nextCursor":"');
  if (at < 0) return undefined;
  return JSON.parse(`{${body.toString('utf8', at, body.indexOf('"', at + 14) + 1)}}`).nextCursor;
}

function measure(pages: readonly Page[]): { items: number; bytes: number } {
  const items = pages.reduce((sum, { body }) => {
    const { items, rows } = JSON.parse(body.toString());
    return sum + (items ?? rows).length;
  }, 0);
  return { items, bytes: pages.reduce((sum, { body }) => sum + body.length, 0) };
}

function get(session: ClientHttp2Session, path: string, headers: Record<string, string>): Promise<Page> {
  const { promise, resolve, reject } = Promise.withResolvers<Page>();
  const stream = session.request({ ':method': 'GET', ':path': path, ...headers });
  const chunks: Buffer[] = [];
  let head: IncomingHttpHeaders = {};
  stream.on('response', (received) => {
    head = received;
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('error', reject);
  stream.on('end', () =>
    resolve({ status: Number(head[':status']), etag: head.etag, body: Buffer.concat(chunks) }),
  );
  return promise;
}
