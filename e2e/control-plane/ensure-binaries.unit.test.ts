import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { binarySettings, platform } from './binaries.ts';
import { ensureBinaries } from './ensure-binaries.ts';
import { BINARY_NAMES } from './versions.ts';

const { os, arch } = platform();
const VERSION = 'v1.37.2';
const WITHOUT_CONTROLLERS = BINARY_NAMES.filter((name) => name !== 'kube-controller-manager');

let home: string;
let server: Server;
let base: string;
/** Path -> body, or how to misbehave. */
let pages: Map<string, Buffer | 'truncated'>;
let asked: string[];
let lines: string[];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'meshkit-ensure-'));
  pages = new Map();
  asked = [];
  lines = [];
  server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const page = pages.get(request.url ?? '');
    if (page === undefined) response.writeHead(404).end();
    else if (page === 'truncated') {
      response.writeHead(200, { 'content-length': 1_000_000 });
      response.write('the beginning', () => setTimeout(() => response.destroy(), 20));
    } else response.end(page);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(home, { recursive: true });
});

/** An archive laid out like controller-tools' own, served and listed in an index. */
async function serveArchive(version: string, names: readonly string[], options: { sha512?: string } = {}) {
  const source = join(home, `source-${version}`);
  const folder = join(source, 'controller-tools', 'envtest');
  await mkdir(folder, { recursive: true });
  for (const name of names)
    await writeFile(join(folder, name), `#!/bin/sh\necho ${name} ${version}\n`, { mode: 0o755 });
  const archive = execFileSync('tar', ['-czf', '-', '-C', source, 'controller-tools']);
  const file = `envtest-${version}-${os}-${arch}.tar.gz`;
  pages.set(`/${file}`, archive);
  const hash = options.sha512 ?? createHash('sha512').update(archive).digest('hex');
  const index = { releases: { [version]: { [file]: { hash, selfLink: `${base}/${file}` } } } };
  pages.set('/index.yaml', Buffer.from(stringify(index)));
}

function serveRelease(version: string, name: string): void {
  const body = Buffer.from(`#!/bin/sh\necho ${name} ${version}\n`);
  const path = `/release/${version}/bin/${os}/${arch}/${name}`;
  pages.set(path, body);
  pages.set(`${path}.sha512`, Buffer.from(createHash('sha512').update(body).digest('hex')));
}

function ensure(options: { version?: string; build?: boolean } = {}) {
  const settings = binarySettings({
    XDG_CACHE_HOME: home,
    PATH: '/nowhere',
    MESHKIT_ENVTEST_INDEX: `${base}/index.yaml`,
    MESHKIT_KUBERNETES_RELEASES: `${base}/release`,
  });
  return ensureBinaries({ settings, build: false, log: (line) => lines.push(line), ...options });
}

const cached = () => readdir(join(home, 'meshkit-shards', 'kubernetes'));

test('an archive with everything is downloaded, checked and unpacked, once', async () => {
  await serveArchive(VERSION, BINARY_NAMES);
  const first = await ensure();
  expect(first).toMatchObject({ version: VERSION, source: 'cache' });
  expect(execFileSync(join(first.folder, 'kubectl'), { encoding: 'utf8' })).toBe(`kubectl ${VERSION}\n`);
  expect(lines).toContain('sha512 is right; unpacking');
  expect(await cached()).toEqual([`${VERSION}-${os}-${arch}`]);
  const before = asked.length;
  expect(await ensure()).toEqual(first);
  expect(asked).toHaveLength(before);
});

test.runIf(os === 'linux')('what the archive lacks comes from the release site', async () => {
  await serveArchive(VERSION, WITHOUT_CONTROLLERS);
  serveRelease(VERSION, 'kube-controller-manager');
  serveRelease(VERSION, 'kubectl');
  const { folder } = await ensure();
  expect((await readdir(folder)).sort()).toEqual([...BINARY_NAMES].sort());
  expect(lines).toContain('envtest archive: does not offer kube-controller-manager');
  expect(asked.filter((path) => path.endsWith('/kubectl'))).toEqual([]);
});

test('what no source has is named, with a line per source; the rest stays in the cache', async () => {
  await serveArchive(VERSION, WITHOUT_CONTROLLERS);
  const failure = ensure({ build: true });
  await expect(failure).rejects.toThrow(`cannot get kube-controller-manager of Kubernetes ${VERSION}:`);
  await expect(failure).rejects.toThrow('envtest archive: does not offer kube-controller-manager');
  await expect(failure).rejects.toThrow('Kubernetes release site:');
  await expect(failure).rejects.toThrow('Go modules: there is no `go` in the PATH');
  const before = asked.length;
  serveRelease(VERSION, 'kube-controller-manager');
  if (os === 'linux') await ensure();
  expect(asked.slice(before).filter((path) => path.endsWith('.tar.gz'))).toEqual([]);
});

test('a wrong checksum is refused, and nothing of it gets into the cache', async () => {
  await serveArchive(VERSION, BINARY_NAMES, { sha512: 'ab'.repeat(64) });
  await expect(ensure()).rejects.toThrow(/has sha512 [0-9a-f]{12}…, but abababababab… was announced/);
  expect(await cached()).toEqual([]);
});

test('a version that the index does not have is named, with what it has', async () => {
  await serveArchive('v1.36.1', BINARY_NAMES);
  await expect(ensure()).rejects.toThrow(
    `the envtest index has no Kubernetes ${VERSION} for ${os}/${arch} (newest: v1.36.1)`,
  );
});

test('another patch release will do, unless one was asked for by name', async () => {
  await serveArchive('v1.37.0', BINARY_NAMES);
  await expect(ensure({ version: VERSION })).rejects.toThrow(`has no Kubernetes ${VERSION}`);
  expect(await ensure()).toMatchObject({ version: 'v1.37.0' });
});

test('a download that breaks off is tried again, and is an error in the end', async () => {
  await serveArchive(VERSION, BINARY_NAMES);
  const path = `/envtest-${VERSION}-${os}-${arch}.tar.gz`;
  pages.set(path, 'truncated');
  await expect(ensure()).rejects.toThrow(`cannot get ${BINARY_NAMES.join(', ')}`);
  expect(asked.filter((url) => url === path)).toHaveLength(3);
  expect(lines.filter((line) => line.startsWith('download broke off'))).toHaveLength(2);
  expect(await cached()).toEqual([]);
});

test('an index that is no index, and a site that has none, are each one clear line', async () => {
  pages.set('/index.yaml', Buffer.from('<html>Please log in</html>'));
  await expect(ensure()).rejects.toThrow('the envtest index is not what it should be');
  pages.delete('/index.yaml');
  await expect(ensure()).rejects.toThrow(`envtest archive: ${base}/index.yaml answered 404`);
});

test('two at once download once', async () => {
  await serveArchive(VERSION, BINARY_NAMES);
  const [first, second] = await Promise.all([ensure(), ensure()]);
  expect(second).toEqual(first);
  expect(asked.filter((path) => path.endsWith('.tar.gz'))).toHaveLength(1);
  expect(lines).toContain(`waiting for process ${process.pid}, which is getting the same binaries`);
});

test('the lock of a process that died is taken over', async () => {
  await serveArchive(VERSION, BINARY_NAMES);
  await mkdir(join(home, 'meshkit-shards', 'kubernetes'), { recursive: true });
  const lock = join(home, 'meshkit-shards', 'kubernetes', `${VERSION}-${os}-${arch}.lock`);
  await writeFile(lock, JSON.stringify({ pid: process.pid, startedAt: 'long ago' }));
  await ensure();
  await expect(readFile(lock)).rejects.toThrow('ENOENT');
});
