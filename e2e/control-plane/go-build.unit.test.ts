import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { buildWithGo, kubernetesModule } from './go-build.ts';

const GO_MOD = `module k8s.io/kubernetes

go 1.26.0

require (
	github.com/google/cel-go v0.29.2
	k8s.io/api v0.0.0
	k8s.io/klog/v2 v2.140.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/client-go => ./staging/src/k8s.io/client-go
	example.com/fork => ./third_party/fork
)
`;

test('what Kubernetes stages in its repository is replaced by what is published, and nothing else is', () => {
  expect(kubernetesModule(GO_MOD, 'v1.37.2')).toBe(`module meshkit.omnirelay.io/build
go 1.26.0
require k8s.io/kubernetes v1.37.2
replace k8s.io/api => k8s.io/api v0.37.2
replace k8s.io/client-go => k8s.io/client-go v0.37.2
`);
});

test('a go.mod without staging is refused: the layout of Kubernetes has changed', () => {
  expect(() => kubernetesModule('module k8s.io/kubernetes\n', 'v1.99.0')).toThrow(
    'replaces nothing by ./staging',
  );
});

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'meshkit-go-'));
  await mkdir(join(folder, 'bin'));
  await mkdir(join(folder, 'out'));
  await writeFile(join(folder, 'go.mod'), GO_MOD);
});
afterEach(() => rm(folder, { recursive: true }));

/** A `go` that notes how it was called. */
async function stubGo(script: string): Promise<Record<string, string>> {
  const go = join(folder, 'bin', 'go');
  await writeFile(go, `#!/bin/sh\necho "$PWD: $*" >> ${folder}/calls\n${script}\n`);
  await chmod(go, 0o755);
  return { PATH: [join(folder, 'bin'), '/usr/bin', '/bin'].join(delimiter) };
}

test('builds the Kubernetes binaries in one module and etcd in another', async () => {
  const env = await stubGo(`[ "$1" = mod ] && echo '{"GoMod": "${folder}/go.mod"}'; exit 0`);
  const lines: string[] = [];
  const files = await buildWithGo({
    version: 'v1.37.2',
    names: ['etcd', 'kubectl', 'kube-apiserver'],
    folder: join(folder, 'out'),
    env,
    log: (line) => lines.push(line),
  });
  expect(files.get('kubectl')).toBe(join(folder, 'out', 'kubectl'));
  const calls = (await readFile(join(folder, 'calls'), 'utf8')).trim().split('\n');
  expect(calls).toHaveLength(4);
  expect(calls[1]).toContain(`out/module-kubernetes: build`);
  expect(calls[1]).toContain('version.gitVersion=v1.37.2');
  expect(calls[1]).toMatch(/k8s.io\/kubernetes\/cmd\/kubectl k8s.io\/kubernetes\/cmd\/kube-apiserver$/);
  expect(calls[3]).toMatch(/out\/module-etcd: build .*out\/etcd go.etcd.io\/etcd\/server\/v3$/);
  expect(lines).toContain('building kubectl, kube-apiserver from source; this takes minutes the first time');
});

test('a failure shows the last words of go; a missing go is named', async () => {
  const options = {
    version: 'v1.37.2',
    names: ['etcd'] as const,
    folder: join(folder, 'out'),
    log: () => undefined,
  };
  const env = await stubGo('echo "go: errors parsing go.mod: requires go >= 1.26.0" >&2; exit 1');
  await expect(buildWithGo({ ...options, env })).rejects.toThrow(
    /go mod download failed \(exit code 1\):\n.*requires go >= 1.26/,
  );
  await rm(join(folder, 'out', 'module-etcd'), { recursive: true });
  await expect(buildWithGo({ ...options, env: { PATH: '/nowhere' } })).rejects.toThrow(
    'there is no `go` in the PATH',
  );
});
