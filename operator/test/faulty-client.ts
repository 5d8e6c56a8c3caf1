import type { KubeClient } from '@meshkit/crds/kube-client';
import { statusError } from '@meshkit/crds/kube-error';
import type { Resource } from '@meshkit/crds/resource';

/** Calls that are to fail: by method and plural of the resource; the HTTP status that the server answers with. */
export type Faults = Map<`${string} ${string}`, number>;

/** A client whose server refuses what is in `faults`, from now on or no more, as the test likes. */
export function faultyClient(client: KubeClient, faults: Faults): KubeClient {
  return new Proxy(client, {
    get(target, property) {
      const method = Reflect.get(target, property, target) as unknown;
      if (typeof method !== 'function') return method;
      return (resource: Resource, ...rest: unknown[]) => {
        const status = faults.get(`${String(property)} ${resource?.plural}`);
        if (status === undefined) return method.call(target, resource, ...rest);
        const call = { what: `${String(property)} ${resource.plural}`, server: target.server };
        const message =
          status === 404 ? 'the server could not find the requested resource' : 'refused by the test';
        const error = statusError(call, { status, body: { code: status, message } });
        if (property === 'watch') return refusing(error);
        return Promise.reject(error);
      };
    },
  });
}

function refusing(error: Error): AsyncIterable<never> {
  return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) };
}
