import type { StatusCause } from '@meshkit/crds/kube-error';
import { type Resource, resourceOf, resourcePath } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import type { KubeObject } from '@meshkit/shards/records';
import { type Manifest, type ManifestFault, manifestError, titleOf } from './manifests.ts';
import type { CallLimits } from './shard-source.ts';
import type { Kube } from './surroundings.ts';

/** A manifest, what is there now, and what would be there once it was applied. */
export interface Applied {
  manifest: Manifest;
  /** Absent: it would be created. */
  live?: KubeObject;
  /** As kube-apiserver answers the dry run; absent when it could not be asked: see `unchecked`. */
  next?: KubeObject;
  /** Why the server could not check it, although nothing is wrong with it. */
  unchecked?: string;
}

/** As `kubectl apply --server-side` calls itself. */
const FIELD_MANAGER = 'kubectl';
const PARALLEL = 8;

/**
 * Has kube-apiserver check what applying the manifests would do, without doing it: schema, CEL, admission, and the
 * caller's own right to apply. Throws `invalidArgument` with each fault at its file and line.
 */
export async function dryRun(
  kube: Pick<Kube, 'get' | 'raw'>,
  manifests: readonly Manifest[],
  o: CallLimits & { fieldManager?: string },
): Promise<Applied[]> {
  const run = new DryRun(kube, o);
  const applied: Applied[] = new Array(manifests.length);
  const faults: ManifestFault[][] = new Array(manifests.length);
  const queue = manifests.entries();
  await Promise.all(
    Array.from({ length: PARALLEL }, async () => {
      for (const [at, manifest] of queue) {
        try {
          applied[at] = await run.apply(manifest);
        } catch (error) {
          faults[at] = faultsOf(manifest, error);
        }
      }
    }),
  );
  const found = faults.flat();
  if (found.length > 0) throw manifestError(found);
  return applied;
}

class DryRun {
  readonly #kube: Pick<Kube, 'get' | 'raw'>;
  readonly #limits: CallLimits;
  readonly #manager: string | undefined;
  #serverSide = true;

  constructor(kube: Pick<Kube, 'get' | 'raw'>, o: CallLimits & { fieldManager?: string }) {
    const { fieldManager, ...limits } = o;
    this.#kube = kube;
    this.#limits = limits;
    this.#manager = fieldManager;
  }

  async apply(manifest: Manifest): Promise<Applied> {
    const { object } = manifest;
    const live = await this.#live(object);
    try {
      const next = (await this.#next(object, live)) as KubeObject;
      return { manifest, live, next };
    } catch (error) {
      // The same pull request may bring the namespace; a dry run does not see what it does not keep.
      if (statusOf(error) === 404 && live === undefined) {
        return { manifest, unchecked: `namespace ${object.metadata.namespace} does not exist yet` };
      }
      throw error;
    }
  }

  async #next(object: KubeObject, live: KubeObject | undefined): Promise<unknown> {
    if (this.#serverSide) {
      const manager = this.#manager ?? applierOf(live) ?? FIELD_MANAGER;
      try {
        return await this.#write('PATCH', object, 'application/apply-patch+yaml', {
          fieldManager: manager,
          fieldValidation: 'Strict',
          force: 'true',
        });
      } catch (error) {
        // A control plane without server-side apply (nor strictness; our schemas were strict already): as one would who never applied before, and owns no field yet.
        if (statusOf(error) !== 501 && statusOf(error) !== 415) throw error;
        this.#serverSide = false;
      }
    }
    const fieldManager = this.#manager ?? FIELD_MANAGER;
    return live
      ? this.#write('PATCH', object, 'application/merge-patch+json', { fieldManager })
      : this.#write('POST', object, 'application/json', { fieldManager });
  }

  async #live(object: KubeObject): Promise<KubeObject | undefined> {
    const resource = resourceOf(object);
    if (!resource) throw new ShardError('invalidArgument', `${object.kind} is not known here`);
    const { namespace, name } = object.metadata;
    try {
      return await this.#kube.get(resource, { namespace, name }, this.#limits);
    } catch (error) {
      if (error instanceof ShardError && error.code === 'notFound' && error.details.reason === 'NotFound')
        return;
      throw error;
    }
  }

  #write(
    method: 'PATCH' | 'POST',
    object: KubeObject,
    contentType: string,
    how: Record<string, string>,
  ): Promise<unknown> {
    const { namespace, name } = object.metadata;
    const resource = resourceOf(object) as Resource;
    const path = resourcePath(resource, method === 'POST' ? { namespace } : { namespace, name });
    const query = { dryRun: 'All', ...how };
    return this.#kube.raw(method, path, { ...this.#limits, body: object, contentType, query });
  }
}

/** Who applied it until now, so that what is no longer in the manifests goes away as it will when that one applies them. */
function applierOf(live: KubeObject | undefined): string | undefined {
  const managers = live?.metadata.managedFields?.filter(({ operation }) => operation === 'Apply') ?? [];
  return managers.length === 1 ? managers[0]?.manager : undefined;
}

function statusOf(error: unknown): unknown {
  return error instanceof ShardError ? error.details.status : undefined;
}

/** What the server found wrong, each at its line; what is not about the manifest is thrown on. */
function faultsOf(manifest: Manifest, error: unknown): ManifestFault[] {
  if (!(error instanceof ShardError)) throw error;
  const {
    status,
    message = error.message,
    causes = [],
  } = error.details as {
    status?: number;
    message?: string;
    causes?: readonly StatusCause[];
  };
  const isRefusal = status === 403 && /denied request|ValidatingAdmissionPolicy/.test(message);
  if (status !== 400 && status !== 422 && !isRefusal) throw error;
  const { file, line } = manifest;
  const object = titleOf(manifest.object);
  const named = causes.filter(({ field }) => field !== undefined && field !== '' && field !== '<nil>');
  if (named.length > 0) {
    return named.map(({ field = '', message: detail = message }) => ({
      file,
      line: manifest.lineOf(field),
      object,
      field,
      detail,
    }));
  }
  const [, unknown] = /unknown field "([^"]+)"/.exec(message) ?? [];
  return [
    {
      file,
      line: unknown === undefined ? line : manifest.lineOf(unknown),
      object,
      field: unknown,
      detail: message,
    },
  ];
}
