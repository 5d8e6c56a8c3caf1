import { spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type BinaryName, ETCD_VERSION, parseVersion } from './versions.ts';

/** How often a build that takes minutes says that it is alive. */
const HEARTBEAT_MS = 15_000;
const TAIL_LINES = 12;

export interface GoBuildOptions {
  version: string;
  names: readonly BinaryName[];
  /** Where the throw-away modules and the results go. */
  folder: string;
  log: (line: string) => void;
  signal?: AbortSignal;
}

/** Builds binaries from the modules that Go's module proxy serves; needs `go` in the PATH. Minutes the first time. */
export async function buildWithGo(options: GoBuildOptions): Promise<Map<BinaryName, string>> {
  const { version, names, folder, log, signal } = options;
  const files = new Map<BinaryName, string>();
  const module = join(folder, 'module-kubernetes');
  const built = names.filter((name) => name !== 'etcd');
  if (built.length > 0) {
    log(`asking the Go module proxy for k8s.io/kubernetes ${version}`);
    await mkdir(module);
    const goMod = await downloadGoMod(`k8s.io/kubernetes@${version}`, folder, signal);
    await writeFile(join(module, 'go.mod'), kubernetesModule(goMod, version));
    for (const name of built) {
      files.set(
        name,
        await build({
          ...options,
          module,
          name,
          package: `k8s.io/kubernetes/cmd/${name}`,
          flags: stamp(version),
        }),
      );
    }
  }
  if (names.includes('etcd')) {
    const module = join(folder, 'module-etcd');
    await mkdir(module);
    const goMod = await downloadGoMod(`go.etcd.io/etcd/server/v3@${ETCD_VERSION}`, folder, signal);
    await writeFile(
      join(module, 'go.mod'),
      moduleText(goMod, `go.etcd.io/etcd/server/v3 ${ETCD_VERSION}`, []),
    );
    files.set(
      'etcd',
      await build({ ...options, module, name: 'etcd', package: 'go.etcd.io/etcd/server/v3', flags: [] }),
    );
  }
  return files;
}

/**
 * The go.mod of a module that can build Kubernetes from outside its repository. There, `k8s.io/api` and the others
 * are replaced by `./staging/…` folders, which a module from the proxy does not have; each of them is published as
 * v0.<minor>.<patch>, so that is what stands in for it.
 */
export function kubernetesModule(goMod: string, version: string): string {
  const { minor, patch } = parseVersion(version);
  const staged = [...goMod.matchAll(/^\s*(?:replace\s+)?(k8s\.io\/[\w.-]+)\s+=>\s+\.\/staging\//gm)].map(
    (match) => match[1],
  );
  if (staged.length === 0)
    throw new Error(`the go.mod of k8s.io/kubernetes ${version} replaces nothing by ./staging`);
  const replaces = [...new Set(staged)]
    .sort()
    .map((name) => `replace ${name} => ${name} v0.${minor}.${patch}`);
  return moduleText(goMod, `k8s.io/kubernetes ${version}`, replaces);
}

/** With the `go` line of the module that it requires, so that the same language version and toolchain apply. */
function moduleText(goMod: string, requirement: string, replaces: readonly string[]): string {
  const go = /^go .*$/m.exec(goMod)?.[0] ?? '';
  return `${['module meshkit.omnirelay.io/build', go, `require ${requirement}`, ...replaces].join('\n')}\n`;
}

/** Otherwise every client would be told that the server is v0.0.0. */
function stamp(version: string): string[] {
  const { minor } = parseVersion(version);
  const values = { gitVersion: version, gitMajor: '1', gitMinor: String(minor), gitTreeState: 'clean' };
  return Object.entries(values).map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`);
}

async function downloadGoMod(module: string, folder: string, signal?: AbortSignal): Promise<string> {
  const output = await go(['mod', 'download', '-json', module], folder, { signal });
  const { GoMod, Error: reason } = JSON.parse(output) as { GoMod?: string; Error?: string };
  if (!GoMod) throw new Error(`go mod download ${module}: ${reason ?? 'no go.mod'}`);
  return readFile(GoMod, 'utf8');
}

async function build(options: {
  name: BinaryName;
  package: string;
  flags: readonly string[];
  module: string;
  folder: string;
  log: (line: string) => void;
  signal?: AbortSignal;
}): Promise<string> {
  const { name, folder, log, signal } = options;
  const output = join(folder, name);
  const began = performance.now();
  const seconds = () => Math.round((performance.now() - began) / 1000);
  let [downloaded, compiled] = [0, 0];
  log(`building ${name} from source (${options.package}); this takes minutes the first time`);
  const heartbeat = setInterval(() => {
    log(`building ${name}: ${downloaded} modules downloaded, ${compiled} packages compiled, ${seconds()} s`);
  }, HEARTBEAT_MS);
  try {
    const ldflags = ['-s', '-w', ...options.flags].join(' ');
    // -mod=mod lets the build itself write the rest of go.mod and go.sum; `go mod tidy` would download test dependencies too.
    const args = [
      'build',
      '-v',
      '-mod=mod',
      '-trimpath',
      '-buildvcs=false',
      '-ldflags',
      ldflags,
      '-o',
      output,
      options.package,
    ];
    await go(args, options.module, {
      signal,
      onProgress: (line) => {
        if (line.startsWith('go: downloading ')) downloaded += 1;
        else if (!line.startsWith('go: ')) compiled += 1;
      },
    });
  } finally {
    clearInterval(heartbeat);
  }
  log(`built ${name} in ${seconds()} s`);
  return output;
}

/** Runs `go`; resolves to its standard output, rejects with the last lines of its standard error. */
function go(
  args: readonly string[],
  cwd: string,
  options: { signal?: AbortSignal; onProgress?: (line: string) => void },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('go', args, {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, GOWORK: 'off' },
      signal: options.signal,
    });
    let output = '';
    const tail: string[] = [];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    createInterface({ input: child.stderr }).on('line', (line) => {
      options.onProgress?.(line);
      tail.push(line);
      if (tail.length > TAIL_LINES) tail.shift();
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'ENOENT' ? new Error('there is no `go` in the PATH') : error);
    });
    child.once('close', (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`go ${args[0]} failed (exit code ${code}):\n${tail.join('\n')}`));
    });
  });
}
