import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';

/** Paths of PEM files. */
export interface TlsFiles {
  cert: string;
  key: string;
}

export interface Certificate {
  cert: Buffer;
  key: Buffer;
}

const RELOAD_EVERY_MS = 30_000;

/** Throws `invalidArgument` in one line that names the flag and the file. */
export async function readCertificate(files: TlsFiles): Promise<Certificate> {
  const [cert, key] = await Promise.all([read('--tls-cert', files.cert), read('--tls-key', files.key)]);
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ShardError(
      'invalidArgument',
      `--tls-cert ${files.cert} and --tls-key ${files.key} cannot be used: ${why}`,
      {},
      error,
    );
  }
  return { cert, key };
}

async function read(flag: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const why = missing ? 'there is no such file' : String(error);
    throw new ShardError('invalidArgument', `${flag} ${path}: ${why}`, {}, error);
  }
}

/** Hands over each renewed certificate (cert-manager rewrites the files in place); resolves when aborted. */
export async function followCertificate(
  files: TlsFiles,
  current: Certificate,
  renewed: (certificate: Certificate) => void,
  { clock, log, signal }: { clock: Clock; log: Log; signal: AbortSignal },
): Promise<void> {
  let known = current;
  while (!signal.aborted) {
    try {
      await clock.sleep(RELOAD_EVERY_MS, signal);
      const next = await readCertificate(files);
      if (next.cert.equals(known.cert) && next.key.equals(known.key)) continue;
      renewed(next);
      known = next;
      log.info({ cert: files.cert }, 'certificate renewed');
    } catch (error) {
      // Half-written files are read again next time; until then the certificate in use goes on serving.
      if (!signal.aborted) log.warn({ err: error }, 'certificate not reloaded');
    }
  }
}
