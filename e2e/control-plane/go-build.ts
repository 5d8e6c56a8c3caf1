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
  /** What `go` runs with: PATH, HOME, GOPROXY and the like. */
  env: Readonly<Record<string, string | undefined>>;
  log: (line: string) => void;
  signal?: AbortSignal;
}

/** Builds binaries from the modules that Go's module proxy serves; needs `go` in the PATH. Minutes the first time. */
export async function buildWithGo(options: GoBuildOptions): Promise<Map<BinaryName, string>> {
  const kubernetes = options.names.filter((name) => name !== 'etcd');
  if (kubernetes.length > 0) await buildKubernetes(options, kubernetes);
  if (options.names.includes('etcd')) await buildEtcd(options);
  return new Map(options.names.map((name) => [name, join(options.folder, name)]));
}

async function buildKubernetes(options: GoBuildOptions, names: readonly BinaryName[]): Promise<void> {
  const { version } = options;
  const module = join(options.folder, 'module-kubernetes');
  await mkdir(module);
  const goMod = await downloadGoMod(`k8s.io/kubernetes@${version}`, options);
  await writeFile(join(module, 'go.mod'), kubernetesModule(goMod, version));
  await build(options, {
    what: names.join(', '),
    module,
    ldflags: stamp(version),
    output: `${options.folder}/`,
    packages: names.map((name) => `k8s.io/kubernetes/cmd/${name}`),
  });
}

async function buildEtcd(options: GoBuildOptions): Promise<void> {
  const path = 'go.etcd.io/etcd/server/v3';
  const module = join(options.folder, 'module-etcd');
  await mkdir(module);
  const goMod = await downloadGoMod(`${path}@${ETCD_VERSION}`, options);
  await writeFile(join(module, 'go.mod'), moduleText(goMod, `${path} ${ETCD_VERSION}`, []));
  await build(options, {
    what: `etcd ${ETCD_VERSION}`,
    module,
    ldflags: [],
    output: join(options.folder, 'etcd'),
    packages: [path],
  });
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

async function downloadGoMod(module: string, options: GoBuildOptions): Promise<string> {
  options.log(`asking the Go module proxy for ${module}`);
  const output = await go(['mod', 'download', '-json', module], { ...options, cwd: options.folder });
  const { GoMod } = JSON.parse(output) as { GoMod?: string };
  if (!GoMod) throw new Error(`go mod download ${module} names no go.mod`);
  return readFile(GoMod, 'utf8');
}

interface Build {
  what: string;
  module: string;
  ldflags: readonly string[];
  output: string;
  packages: readonly string[];
}

async function build(options: GoBuildOptions, job: Build): Promise<void> {
  const { log } = options;
  const began = performance.now();
  const seconds = () => Math.round((performance.now() - began) / 1000);
  let [downloaded, compiled] = [0, 0];
  log(`building ${job.what} from source; this takes minutes the first time`);
  const heartbeat = setInterval(() => {
    log(`building: ${downloaded} modules downloaded, ${compiled} packages compiled, ${seconds()} s`);
  }, HEARTBEAT_MS);
  const ldflags = ['-s', '-w', ...job.ldflags].join(' ');
  // -mod=mod lets the build itself write the rest of go.mod and go.sum; `go mod tidy` would download test dependencies too.
  const flags = ['-v', '-mod=mod', '-trimpath', '-buildvcs=false', '-ldflags', ldflags, '-o', job.output];
  try {
    await go(['build', ...flags, ...job.packages], {
      ...options,
      cwd: job.module,
      onProgress: (line) => {
        if (line.startsWith('go: downloading ')) downloaded += 1;
        else if (!line.startsWith('go: ')) compiled += 1;
      },
    });
  } finally {
    clearInterval(heartbeat);
  }
  log(`built ${job.what} in ${seconds()} s`);
}

/** Runs `go`; resolves to its standard output, rejects with the last lines of its standard error. */
function go(
  args: readonly string[],
  options: {
    cwd: string;
    env: GoBuildOptions['env'];
    signal?: AbortSignal;
    onProgress?: (line: string) => void;
  },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('go', args, {
      cwd: options.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...options.env, GOWORK: 'off' },
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
      // `go mod download -json` reports its own failure on standard output.
      if (code === 0) resolve(output);
      else
        reject(
          new Error(
            `go ${args.slice(0, 2).join(' ')} failed (exit code ${code}):\n${tail.join('\n') || output.trim()}`,
          ),
        );
    });
  });
}
