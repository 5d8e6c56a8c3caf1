import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

/** The import arrows of ARCHITECTURE.md: each room, the workspaces it may import, and what else it may use. */
const ROOMS: Record<string, { imports: string[]; pure?: boolean }> = {
  shards: { imports: [], pure: true },
  crds: { imports: ['shards'] },
  proto: { imports: [] },
  client: { imports: ['shards', 'proto'] },
  'client/agent': { imports: ['shards', 'crds', 'client'] },
  samples: { imports: ['client', 'client/agent'] },
  operator: { imports: ['shards', 'crds'] },
  'api-server': { imports: ['shards', 'crds', 'proto'] },
  'kubectl-plugin': { imports: ['shards', 'crds', 'client'] },
  e2e: { imports: ['shards', 'crds', 'proto', 'client', 'client/agent'] },
};
const PURE_LIBRARIES = ['xxhash-wasm', 'sorted-btree'];
const MAX_LINES = 500;
/** What a kubeconfig means is defined in terms of the environment: KUBECONFIG, HOME, what exec plugins inherit. */
const READ_ENVIRONMENT = ['crds/src/kube-config.ts', 'crds/src/kube-credentials.ts'];

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const rooms = Object.keys(ROOMS).sort((a, b) => b.length - a.length);
const roomOf = (path: string) => rooms.find((room) => path === room || path.startsWith(`${room}/`));

const files = Object.keys(ROOMS)
  .flatMap((room) =>
    globSync(`${room}/**/*.ts`, { cwd: root, exclude: ['**/node_modules/**', '**/dist/**'] }),
  )
  .map((path) => path.replaceAll('\\', '/'));
const sources = [...new Set(files)].sort();
const text = new Map(sources.map((path) => [path, readFileSync(join(root, path), 'utf8')]));

/** Module specifiers; without those of `import type`, which are gone at run time, when only values count. */
function importsOf(path: string, only: 'all' | 'values' = 'all'): string[] {
  let code = (text.get(path) as string).replace(/^\s*(\/\/|\*).*$/gm, '');
  if (only === 'values') code = code.replace(/\bimport type\b[^;]*;/g, '');
  const found = code.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g);
  return [...found].map((match) => match[1] as string);
}

/** The room and, when it is a file of ours, the path that an import specifier leads to. */
function target(from: string, specifier: string): { room?: string; path?: string } {
  if (specifier.startsWith('.')) {
    const path = relative(root, resolve(root, dirname(from), specifier)).replaceAll('\\', '/');
    return { room: roomOf(path), path };
  }
  const ours = /^@meshkit\/([^/]+)\/?(.*)$/.exec(specifier);
  if (!ours) return {};
  const [, workspace, entry] = ours as unknown as [string, string, string];
  if (workspace === 'client' && entry === 'agent')
    return { room: 'client/agent', path: 'client/agent/agent.ts' };
  if (workspace === 'proto') {
    const path = entry
      .replace(/^v1\//, 'meshkit/shards/v1/')
      .replace(/^rpc\//, 'google/rpc/')
      .replace(/^(health|reflection)$/, 'grpc/$1/v1/$1');
    return { room: workspace, path: `proto/gen/${path}.ts` };
  }
  return { room: workspace, path: `${workspace}/src/${entry}.ts` };
}

const isTest = (path: string) => /\.test\.ts$|\/test\//.test(path);

describe('import arrows', () => {
  test('there is something to look at', () => {
    expect(sources.length).toBeGreaterThan(20);
    expect(sources.flatMap((path) => importsOf(path)).length).toBeGreaterThan(50);
  });

  test('every import follows an arrow of ARCHITECTURE.md', () => {
    const wrong = sources.flatMap((path) => {
      const room = roomOf(path) as string;
      return importsOf(path).flatMap((specifier) => {
        const to = target(path, specifier);
        if (to.room === undefined || to.room === room) return [];
        if (specifier.startsWith('.'))
          return [`${path}: leaves its package by a relative path: ${specifier}`];
        return ROOMS[room]?.imports.includes(to.room)
          ? []
          : [`${path}: ${room} must not import ${specifier}`];
      });
    });
    expect(wrong).toEqual([]);
  });

  test('imports of our packages name files that exist', () => {
    const missing = sources.flatMap((path) =>
      importsOf(path).flatMap((specifier) => {
        const to = target(path, specifier);
        return to.path?.endsWith('.ts') && !existsSync(join(root, to.path)) ? [`${path}: ${specifier}`] : [];
      }),
    );
    expect(missing).toEqual([]);
  });

  test('shards is pure: no node modules, no library that could do I/O', () => {
    const impure = sources
      .filter((path) => roomOf(path) === 'shards' && !isTest(path) && !path.endsWith('generate.ts'))
      .flatMap((path) =>
        importsOf(path)
          .filter((specifier) => !specifier.startsWith('.') && !PURE_LIBRARIES.includes(specifier))
          .map((specifier) => `${path}: ${specifier}`),
      );
    expect(impure).toEqual([]);
  });

  test('no import cycles between files', () => {
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (path: string, trail: string[]) => {
      if (trail.includes(path)) {
        cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
        return;
      }
      if (done.has(path) || !text.has(path)) return;
      for (const specifier of importsOf(path, 'values')) {
        const to = target(path, specifier).path;
        if (to) visit(to, [...trail, path]);
      }
      done.add(path);
    };
    for (const path of sources) visit(path, []);
    expect(cycles).toEqual([]);
  });

  test('only main.ts reads the environment', () => {
    const readers = sources.filter(
      (path) =>
        !isTest(path) &&
        !READ_ENVIRONMENT.includes(path) &&
        !path.startsWith('e2e/') &&
        !/(^|\/)main\.ts$/.test(path) &&
        /process\.env/.test(text.get(path) as string),
    );
    expect(readers).toEqual([]);
  });

  test(`no hand-written file is longer than ${MAX_LINES} lines`, () => {
    const long = sources
      .filter((path) => !path.includes('/gen/'))
      .map((path) => ({ path, lines: (text.get(path) as string).split('\n').length - 1 }))
      .filter(({ lines }) => lines > MAX_LINES);
    expect(long).toEqual([]);
  });
});
