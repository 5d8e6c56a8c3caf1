import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';
import { RawHttp2 } from './raw-http2.ts';

export interface ListLoad {
  /** Origin. */
  url: string;
  ca: string;
  headers: Record<string, string>;
  /** `:path` of the first page. */
  path: string;
  /** `cursor`: the `nextCursor` of a page names the next one; absent: one answer is all. */
  paged: boolean;
  clients: number;
  /** Lists per client; absent: for as long as `forMs`. */
  times?: number;
  forMs?: number;
}

/** One client that knows the answer and asks whether it still holds. */
export interface RevalidationLoad extends Pick<ListLoad, 'url' | 'ca' | 'headers' | 'path'> {
  forMs: number;
  /** Wait between two requests. */
  pauseMs: number;
}

export interface RevalidationResult {
  /** Milliseconds of each request. */
  ms: number[];
  notModified: number;
}

export interface ListResult {
  /** Milliseconds from the first request to the last byte of the last page. */
  ms: number[];
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
    items: last.items,
    bytes: last.bytes,
  };
}

async function runClient(load: ListLoad): Promise<ListResult> {
  const { times = Number.POSITIVE_INFINITY, forMs = Number.POSITIVE_INFINITY } = load;
  return withSession(load, async (session) => {
    const result: ListResult = { ms: [], items: 0, bytes: 0 };
    const until = performance.now() + forMs;
    for (let at = 0; at < times && performance.now() < until; at++) {
      const started = performance.now();
      const pages = await readAll(session, load);
      result.ms.push(performance.now() - started);
      Object.assign(result, measure(pages));
    }
    return result;
  });
}

/**
 * Asks over and over with the entity tag that an ordinary client got. The answer is a few bytes: Node's client would be
 * a good part of what is measured.
 */
export async function runRevalidations(load: RevalidationLoad): Promise<RevalidationResult> {
  const { url, ca, headers, path, forMs, pauseMs } = load;
  const tag = () => withSession(load, async (session) => (await get(session, path, headers)).etag ?? '');
  const pseudo = { ':method': 'GET', ':scheme': 'https', ':authority': 'bench', ':path': path };
  const result: RevalidationResult = { ms: [], notModified: 0 };
  let etag = await tag();
  const connection = await RawHttp2.connect(url, ca);
  const until = performance.now() + forMs;
  try {
    while (performance.now() < until) {
      const started = performance.now();
      const status = await answered(connection, { ...pseudo, ...headers, 'if-none-match': etag });
      result.ms.push(performance.now() - started);
      if (status === 304) result.notModified += 1;
      else etag = await tag();
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  } finally {
    connection.destroy();
  }
  return result;
}

/** Resolves at the end of the answer. */
function answered(connection: RawHttp2, headers: Record<string, string>): Promise<200 | 304> {
  const { promise, resolve, reject } = Promise.withResolvers<200 | 304>();
  let status: 200 | 304 | undefined;
  connection.request(headers, {
    began: (found) => {
      status ??= found;
    },
    data: () => undefined,
    ended: (why) => (status ? resolve(status) : reject(new Error(`neither 200 nor 304: ${why}`))),
  });
  return promise;
}

async function withSession<T>(
  { url, ca }: Pick<ListLoad, 'url' | 'ca'>,
  work: (session: ClientHttp2Session) => Promise<T>,
): Promise<T> {
  const session = connect(url, { ca, settings: { initialWindowSize: CONNECTION_WINDOW, enablePush: false } });
  const failed = Promise.withResolvers<never>();
  session.on('error', failed.reject);
  session.once('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW));
  try {
    return await Promise.race([work(session), failed.promise]);
  } finally {
    session.destroy();
  }
}

interface Page {
  etag?: string;
  body: Buffer;
}

async function readAll(session: ClientHttp2Session, load: ListLoad): Promise<Page[]> {
  const pages: Page[] = [];
  let path = load.path;
  for (;;) {
    const page = await get(session, path, load.headers);
    pages.push(page);
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
  stream.on('end', () => {
    const [status, body] = [Number(head[':status']), Buffer.concat(chunks)];
    if (status === 200) resolve({ etag: head.etag, body });
    else reject(new Error(`${path} answered ${status}: ${body.toString().slice(0, 500)}`));
  });
  return promise;
}
