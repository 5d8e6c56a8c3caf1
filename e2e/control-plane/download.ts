import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { systemClock } from '@meshkit/crds/clock';
import { EnvHttpProxyAgent, request } from 'undici';

const ATTEMPTS = 3;
const RETRY_MS = 1_000;
const CONNECT_MS = 5_000;
/** No byte for this long, and the other side counts as gone. */
const STALL_MS = 30_000;
const MAX_BYTES = 1_000_000_000;
const MAX_REDIRECTS = 5;
/** No way there at all, as on a machine without internet: waiting a second changes nothing. */
const UNREACHABLE = ['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'];

type Body = AsyncIterable<Uint8Array>;

export interface DownloadOptions {
  signal?: AbortSignal;
  /** Called before the next attempt when a connection broke off. */
  onRetry?: (reason: string) => void;
}

/** The server answered, and the answer is no. */
class HttpError extends Error {
  readonly status: number;

  constructor(url: string, status: number) {
    super(`${url} answered ${status}`);
    this.status = status;
  }
}

/** What came is not what was announced. */
class ChecksumError extends Error {}

/** A small text file. Proxies are taken from the environment, as by curl. */
export async function downloadText(url: string, options: DownloadOptions = {}): Promise<string> {
  let text = '';
  await download(url, options, async (body) => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of body) chunks.push(chunk);
    text = Buffer.concat(chunks).toString('utf8');
  });
  return text;
}

/** Writes the body to `file`; rejects with a `ChecksumError` unless its SHA-512 (hex) is the announced one. */
export async function downloadFile(
  url: string,
  file: string,
  sha512: string,
  options: DownloadOptions = {},
): Promise<void> {
  let actual = '';
  await download(url, options, async (body) => {
    const hash = createHash('sha512');
    const hashed = async function* (chunks: Body): Body {
      for await (const chunk of chunks) {
        hash.update(chunk);
        yield chunk;
      }
    };
    await pipeline(body, hashed, createWriteStream(file, { mode: 0o600 }));
    actual = hash.digest('hex');
  });
  if (actual !== sha512.toLowerCase()) {
    throw new ChecksumError(
      `${url} has sha512 ${actual.slice(0, 12)}…, but ${sha512.slice(0, 12)}… was announced`,
    );
  }
}

/** Up to three attempts; a refusal stands, anything else is taken for a broken connection. */
async function download(
  url: string,
  options: DownloadOptions,
  consume: (body: Body) => Promise<void>,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const dispatcher = new EnvHttpProxyAgent({
      connect: { timeout: CONNECT_MS },
      headersTimeout: STALL_MS,
      bodyTimeout: STALL_MS,
    });
    try {
      await consume(await open(url, dispatcher, options.signal));
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      const stands = error instanceof HttpError || UNREACHABLE.includes(code) || options.signal?.aborted;
      if (stands || attempt === ATTEMPTS) throw error;
      options.onRetry?.(error instanceof Error ? error.message : String(error));
      await systemClock.sleep(RETRY_MS, options.signal);
    } finally {
      await dispatcher.destroy();
    }
  }
}

/** The body, after redirects. Reading it fails when it ends before its announced length. */
async function open(url: string, dispatcher: EnvHttpProxyAgent, signal?: AbortSignal): Promise<Body> {
  let location = url;
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    const { statusCode, headers, body } = await request(location, { dispatcher, signal });
    if (statusCode === 200) return bounded(body, url);
    await body.dump();
    if (statusCode < 300 || statusCode >= 400 || typeof headers.location !== 'string')
      throw new HttpError(url, statusCode);
    location = new URL(headers.location, location).href;
  }
  throw new Error(`${url} redirects more than ${MAX_REDIRECTS} times`);
}

async function* bounded(body: Body, url: string): Body {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new Error(`${url} is larger than ${MAX_BYTES} bytes`);
    yield chunk;
  }
}
