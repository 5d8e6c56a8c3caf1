import { ShardError } from '@meshkit/shards/errors';
import type { KubeClient } from './kube-client.ts';

/** TLS failures that waiting does not heal: the kubeconfig's CA is not this server's. */
const DISTRUST = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ALTNAME/;

/**
 * Asks the API server once who we are to it. Throws where the kubeconfig is wrong (credentials refused, certificate not
 * trusted); a server that cannot be reached is not an error here: a process waits for it and reports not ready.
 */
export async function probe(client: Pick<KubeClient, 'raw'>, signal: AbortSignal): Promise<void> {
  try {
    await client.raw('GET', '/version', { signal, timeoutMs: 5000 });
  } catch (error) {
    if (!(error instanceof ShardError)) throw error;
    const distrusted = DISTRUST.test(String(error.details.reason ?? ''));
    if (error.code === 'unauthenticated' || error.code === 'invalidArgument' || distrusted) throw error;
  }
}
