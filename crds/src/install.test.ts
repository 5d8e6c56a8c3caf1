import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { CHANGED_BY_ANNOTATION, type KubeObject } from '@meshkit/shards/records';
import { describe, expect, test } from 'vitest';
import { applyManifest, type InstallClient, installManifests } from './install.ts';
import type { Log } from './log.ts';
import { MANIFESTS } from './manifest.ts';
import type { Resource } from './resource.ts';

function status(code: number): ShardError {
  return new ShardError('unavailable', `answer ${code}`, { status: code });
}

/** A server in memory; `absent` are kinds it does not serve, with the status it then answers. */
class FakeServer {
  readonly server = 'https://fake';
  readonly calls: string[] = [];
  readonly objects = new Map<string, KubeObject>();
  readonly absent = new Map<string, number>();
  serverSideApply = true;
  /** How often a list fails with 429 before it works. */
  initializing = 0;
  established = true;
  stamps = true;

  #enter(verb: string, kind: string, name: string): string {
    this.calls.push(`${verb} ${kind} ${name}`);
    const code = this.absent.get(kind);
    if (code !== undefined) throw status(code);
    return `${kind} ${name}`;
  }

  async patch(resource: Resource, key: { name: string }, body: object): Promise<KubeObject> {
    const id = this.#enter('apply', resource.kind, key.name);
    if (!this.serverSideApply) throw status(501);
    this.objects.set(id, body as KubeObject);
    return body as KubeObject;
  }

  async get(resource: Resource, key: { name: string }): Promise<KubeObject> {
    const found = this.objects.get(this.#enter('get', resource.kind, key.name));
    if (!found) throw status(404);
    const conditions = [{ type: 'Established', status: this.established ? 'True' : 'False' }];
    return { ...found, status: { conditions } } as KubeObject;
  }

  async create(resource: Resource, object: KubeObject, o: { dryRun?: boolean } = {}): Promise<KubeObject> {
    const id = this.#enter(o.dryRun ? 'try' : 'create', resource.kind, object.metadata.name);
    if (!o.dryRun) this.objects.set(id, object);
    const annotations = this.stamps ? { [CHANGED_BY_ANNOTATION]: 'me' } : undefined;
    return { ...object, metadata: { ...object.metadata, annotations } };
  }

  async update(resource: Resource, object: KubeObject): Promise<KubeObject> {
    this.objects.set(this.#enter('update', resource.kind, object.metadata.name), object);
    return object;
  }

  async list(resource: Resource): Promise<{ items: KubeObject[]; resourceVersion: string }> {
    this.#enter('list', resource.kind, '');
    if (this.initializing-- > 0) throw status(429);
    return { items: [], resourceVersion: '1' };
  }

  /** The fake forgets the types of what it stores. */
  client(): InstallClient {
    return this as unknown as InstallClient;
  }
}

/** Sleeping is what makes time pass. */
function fakeClock(): Clock {
  let time = 0;
  return {
    now: () => time,
    monotonic: () => time,
    sleep: async (ms) => {
      time += ms;
    },
  };
}

function recorder(): { log: Log; lines: unknown[] } {
  const lines: unknown[] = [];
  const line = (fields: Record<string, unknown>, message: string) => void lines.push({ ...fields, message });
  return { log: { debug: line, info: line, warn: line, error: line }, lines };
}

const names = MANIFESTS.flatMap(({ objects }) =>
  objects.map(({ kind, metadata }) => `apply ${kind} ${metadata.name}`),
);

describe('installManifests', () => {
  test('applies everything in order, and waits for kinds and policies', async () => {
    const server = new FakeServer();
    server.initializing = 2;
    const { log, lines } = recorder();
    await installManifests(server.client(), { log, clock: fakeClock() });
    expect(server.calls.slice(0, names.length)).toEqual(names);
    expect(server.calls.filter((call) => call.startsWith('list ShardSet'))).toHaveLength(3);
    expect(server.calls.at(-1)).toBe('try MeshNode meshkit-install-probe');
    expect(lines).toEqual([]);
  });

  test('without server-side apply it creates what is missing and updates what is there', async () => {
    const server = new FakeServer();
    server.serverSideApply = false;
    await installManifests(server.client(), { clock: fakeClock() });
    expect(server.calls.filter((call) => call.startsWith('apply'))).toHaveLength(1);
    expect(server.objects.size).toBe(names.length);
    server.calls.length = 0;
    await installManifests(server.client(), { clock: fakeClock() });
    expect(server.calls.filter((call) => call.startsWith('create'))).toEqual([]);
    expect(server.calls.filter((call) => call.startsWith('update'))).toHaveLength(names.length);
  });

  test('kinds that are not implemented are left out, with one line', async () => {
    const server = new FakeServer();
    server.serverSideApply = false;
    for (const kind of [
      'CustomResourceDefinition',
      'ValidatingAdmissionPolicy',
      'ValidatingAdmissionPolicyBinding',
    ])
      server.absent.set(kind, 501);
    for (const kind of ['MutatingAdmissionPolicy', 'MutatingAdmissionPolicyBinding'])
      server.absent.set(kind, 501);
    const { log, lines } = recorder();
    await installManifests(server.client(), { log, clock: fakeClock() });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ kinds: expect.arrayContaining(['MutatingAdmissionPolicy']) });
    expect(server.calls.some((call) => call.startsWith('try'))).toBe(false);
  });

  test('before Kubernetes 1.36 the mutating policy is not served, which is no failure', async () => {
    const server = new FakeServer();
    for (const kind of ['MutatingAdmissionPolicy', 'MutatingAdmissionPolicyBinding'])
      server.absent.set(kind, 404);
    const { log, lines } = recorder();
    await installManifests(server.client(), { log, clock: fakeClock() });
    expect(lines).toEqual([
      expect.objectContaining({ kinds: ['MutatingAdmissionPolicy', 'MutatingAdmissionPolicyBinding'] }),
    ]);
  });

  test.each<[string, Partial<FakeServer>]>([
    ['is established', { established: false }],
    ['can be listed', { initializing: Number.POSITIVE_INFINITY }],
    ['the admission policies act', { stamps: false }],
  ])('a server of which it is not true that it %s ends in a timeout', async (what, state) => {
    const server = Object.assign(new FakeServer(), state);
    const install = installManifests(server.client(), { clock: fakeClock() });
    await expect(install).rejects.toMatchObject({ code: 'timeout', message: expect.stringContaining(what) });
  });

  test('another refusal is the caller’s to see', async () => {
    const server = new FakeServer();
    server.absent.set('ClusterRole', 403);
    await expect(installManifests(server.client(), { clock: fakeClock() })).rejects.toThrow('answer 403');
  });
});

test('applyManifest says which kind a server does not serve', async () => {
  const server = new FakeServer();
  server.absent.set('ClusterRole', 501);
  const yaml = 'apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: x}';
  await expect(applyManifest(server.client(), yaml)).rejects.toThrow(
    'https://fake does not serve rbac.authorization.k8s.io/v1 ClusterRole',
  );
});
