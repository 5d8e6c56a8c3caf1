import type { StatusCause } from '@meshkit/crds/kube-error';
import { resourceOf, resourcePath } from '@meshkit/crds/resource';
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

const FIELD_MANAGER = 'kubectl-mesh';
const PARALLEL = 8;

/**
 * Has kube-apiserver check what applying the manifests would do, without doing it: schema, CEL, admission, and the
 * caller's own right to apply. Throws `invalidArgument` with each fault at its file and line.
 */
export async function dryRun(
  kube: Pick<Kube, 'get' | 'raw'>,
  manifests: readonly Manifest[],
  limits: CallLimits,
): Promise<Applied[]> {
  const run = new DryRun(kube, limits);
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
  #serverSide = true;

  constructor(kube: Pick<Kube, 'get' | 'raw'>, limits: CallLimits) {
    this.#kube = kube;
    this.#limits = limits;
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
      try {
        return await this.#write('PATCH', object, object, 'application/apply-patch+yaml');
      } catch (error) {
        // A control plane without server-side apply; then as `kubectl apply` did before there was one.
        if (statusOf(error) !== 501 && statusOf(error) !== 415) throw error;
        this.#serverSide = false;
      }
    }
    if (!live) return this.#write('POST', object, object);
    const metadata = {
      ...live.metadata,
      labels: { ...live.metadata.labels, ...object.metadata.labels },
      annotations: { ...live.metadata.annotations, ...object.metadata.annotations },
    };
    return this.#write('PUT', object, { ...live, ...object, metadata });
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
    method: 'PATCH' | 'POST' | 'PUT',
    { kind, apiVersion, metadata }: KubeObject,
    body: object,
    contentType?: string,
  ) {
    const { namespace, name } = metadata;
    const resource = resourceOf({ kind, apiVersion })!;
    const path = resourcePath(resource, method === 'POST' ? { namespace } : { namespace, name });
    const force = method === 'PATCH' ? true : undefined;
    const query = { dryRun: 'All', fieldManager: FIELD_MANAGER, fieldValidation: 'Strict', force };
    return this.#kube.raw(method, path, { ...this.#limits, body, contentType, query });
  }
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
