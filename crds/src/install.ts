import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { API_VERSION, CHANGED_BY_ANNOTATION, type KubeObject, type MeshNode } from '@meshkit/shards/records';
import { parseAllDocuments } from 'yaml';
import { systemClock } from './clock.ts';
import { CRDS } from './crd.ts';
import { SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from './journal-objects.ts';
import type { KubeClient } from './kube-client.ts';
import { statusOf } from './kube-error.ts';
import { type Log, silentLog } from './log.ts';
import { MANIFESTS } from './manifest.ts';
import { CHANGED_BY_POLICY } from './policies.ts';
import {
  ADMISSION_GROUP,
  CUSTOM_RESOURCE_DEFINITIONS,
  MESH_NODES,
  type Resource,
  resourceOf,
  SHARD_ASSIGNMENTS,
  SHARD_SETS,
} from './resource.ts';
import { SYSTEM_NAMESPACE } from './roles.ts';

const FIELD_MANAGER = 'meshkit-install';
const READY_WITHIN_MS = 30_000;
const POLL_MS = 100;

/** What installing needs of a KubeClient. */
export type InstallClient = Pick<KubeClient, 'server' | 'get' | 'list' | 'create' | 'update' | 'patch'>;

export interface InstallOptions {
  signal?: AbortSignal;
  log?: Log;
  clock?: Clock;
}

/**
 * Applies CRDs, roles and admission policies in their order, and waits (30 s at most) until the kinds can be listed
 * and the policies act. Idempotent; upgrades what an older version installed. Throws ShardError: `scopeMissing` where
 * the caller may not install, `timeout` where the server does not get ready.
 *
 * What the server does not serve is left out with one log line each: server-side apply and admission policies on the
 * embedded control plane, mutating policies before Kubernetes 1.36.
 */
export async function installManifests(client: InstallClient, options: InstallOptions = {}): Promise<void> {
  const { signal, log = silentLog, clock = systemClock } = options;
  const applier = new Applier(client, signal);
  const skipped = new Set<string>();
  for (const object of MANIFESTS.flatMap(({ objects }) => objects)) {
    if (!(await applier.apply(object))) skipped.add(object.kind);
  }
  if (skipped.size > 0) {
    log.warn({ kinds: [...skipped], server: client.server }, 'not served by this control plane, left out');
  }
  const deadline = clock.monotonic() + READY_WITHIN_MS;
  const wait: Wait = { client, clock, signal, deadline };
  if (!skipped.has('CustomResourceDefinition')) {
    for (const { metadata } of CRDS) {
      await until(wait, `CRD ${metadata.name} is established`, () => established(wait, metadata.name));
    }
  }
  for (const resource of [
    SHARD_SETS,
    SHARD_ASSIGNMENTS,
    MESH_NODES,
    SHARD_JOURNAL_HEADS,
    SHARD_JOURNAL_SEGMENTS,
  ]) {
    await until(wait, `${resource.plural} can be listed`, () => listable(wait, resource));
  }
  if (!CHANGED_BY_POLICY.some(({ kind }) => skipped.has(kind))) {
    await until(wait, 'the admission policies act', () => stamped(wait));
  }
}

/**
 * Applies every object of a YAML text, as `kubectl apply --server-side --force-conflicts` would. Objects without a
 * namespace go to the client's. Throws ShardError `invalidArgument` for text that is no list of objects we know.
 */
export async function applyManifest(
  client: InstallClient,
  yaml: string,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const applier = new Applier(client, options.signal);
  for (const object of parseManifest(yaml)) {
    if (!(await applier.apply(object))) {
      throw new ShardError(
        'invalidArgument',
        `${client.server} does not serve ${object.apiVersion} ${object.kind}`,
      );
    }
  }
}

function parseManifest(yaml: string): KubeObject[] {
  const documents = parseAllDocuments(yaml);
  const objects: KubeObject[] = [];
  for (const document of documents) {
    const [error] = document.errors;
    if (error)
      throw new ShardError('invalidArgument', `the manifest is not YAML: ${error.message}`, {}, error);
    const object: KubeObject | null = document.toJS();
    if (object === null) continue;
    if (!object.apiVersion || !object.kind || !object.metadata?.name) {
      throw new ShardError(
        'invalidArgument',
        'the manifest has an object without apiVersion, kind or metadata.name',
      );
    }
    objects.push(object);
  }
  return objects;
}

/** Applies objects one by one, and remembers when the server has no server-side apply. */
class Applier {
  readonly #client: InstallClient;
  readonly #signal: AbortSignal | undefined;
  #serverSide = true;

  constructor(client: InstallClient, signal: AbortSignal | undefined) {
    this.#client = client;
    this.#signal = signal;
  }

  /** False when the server does not serve the object's kind. */
  async apply(object: KubeObject): Promise<boolean> {
    const resource = resourceOf(object);
    if (!resource) {
      throw new ShardError(
        'invalidArgument',
        `cannot apply ${object.kind} (${object.apiVersion}): unknown kind`,
      );
    }
    try {
      if (this.#serverSide && (await this.#applyServerSide(resource, object))) return true;
      await this.#createOrUpdate(resource, object);
      return true;
    } catch (error) {
      const status = statusOf(error);
      // Of a group that every server has, 404 can only mean the kind.
      if (status === 501 || (status === 404 && resource.group === ADMISSION_GROUP)) return false;
      throw error;
    }
  }

  async #applyServerSide(resource: Resource, object: KubeObject): Promise<boolean> {
    try {
      await this.#client.patch(resource, object.metadata, object, {
        type: 'apply',
        fieldManager: FIELD_MANAGER,
        force: true,
        signal: this.#signal,
      });
      return true;
    } catch (error) {
      if (statusOf(error) !== 501) throw error;
      this.#serverSide = false;
      return false;
    }
  }

  async #createOrUpdate(resource: Resource, object: KubeObject): Promise<void> {
    const signal = this.#signal;
    const present = await this.#client.get(resource, object.metadata, { signal }).catch((error: unknown) => {
      if (statusOf(error) === 404) return undefined;
      throw error;
    });
    if (!present) {
      await this.#client.create(resource, object, { signal });
      return;
    }
    const metadata = {
      ...present.metadata,
      labels: { ...present.metadata.labels, ...object.metadata.labels },
      annotations: { ...present.metadata.annotations, ...object.metadata.annotations },
    };
    await this.#client.update(resource, { ...present, ...object, metadata }, { signal });
  }
}

interface Wait {
  client: InstallClient;
  clock: Clock;
  signal: AbortSignal | undefined;
  /** Monotonic. */
  deadline: number;
}

/** Just after a CRD was created, each server's storage for it answers 404, 429 or 503 for a moment. */
const SETTLING = [404, 429, 503];

async function until(wait: Wait, what: string, done: () => Promise<boolean>): Promise<void> {
  for (;;) {
    let refusal: unknown;
    try {
      if (await done()) return;
    } catch (error) {
      if (!SETTLING.includes(statusOf(error) ?? 0)) throw error;
      refusal = error;
    }
    if (wait.clock.monotonic() >= wait.deadline) {
      throw new ShardError(
        'timeout',
        `waited ${READY_WITHIN_MS / 1000} s in vain until ${what}`,
        {},
        refusal,
      );
    }
    await wait.clock.sleep(POLL_MS, wait.signal);
  }
}

async function established({ client, signal }: Wait, name: string): Promise<boolean> {
  const { status } = await client.get(CUSTOM_RESOURCE_DEFINITIONS, { name }, { signal });
  const condition = (type: string) => status?.conditions?.find((one) => one.type === type);
  const names = condition('NamesAccepted');
  if (names?.status === 'False') {
    throw new ShardError(
      'conflict',
      `CRD ${name} cannot be used: ${names.message}. Remove the other CRD first.`,
    );
  }
  return condition('Established')?.status === 'True';
}

async function listable({ client, signal }: Wait, resource: Resource): Promise<boolean> {
  await client.list(resource, { limit: 1, signal });
  return true;
}

/** kube-apiserver looks for new policies about once a second; a dry run shows whether the stamp is put on. */
async function stamped({ client, signal }: Wait): Promise<boolean> {
  const probe: MeshNode = {
    apiVersion: API_VERSION,
    kind: 'MeshNode',
    metadata: { name: 'meshkit-install-probe', namespace: SYSTEM_NAMESPACE },
    spec: {},
  };
  const created = await client.create(MESH_NODES, probe, { dryRun: true, signal });
  return created.metadata.annotations?.[CHANGED_BY_ANNOTATION] !== undefined;
}
