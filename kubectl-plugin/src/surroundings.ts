import type { ShardClient, ShardClientOptions } from '@meshkit/client/shard-client';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { KubeConfigOptions, KubeContext } from '@meshkit/crds/kube-config';
import type { Clock } from '@meshkit/shards/clock';

/** A stream as the program uses it; `width` only where a person looks at it. */
export interface Output {
  /** Resolves when more can be written; nothing is queued without bound. */
  write(text: string): Promise<void>;
  /** Columns of the terminal; undefined for a pipe or a file. */
  width?: number;
  color: boolean;
}

/** Everything that the program touches outside itself, so that a test can stand in for it. */
export interface Surroundings {
  stdout: Output;
  stderr: Output;
  env: Readonly<Record<string, string | undefined>>;
  clock: Clock;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  readFile(path: string): Promise<string>;
  connectApi(options: ShardClientOptions): Pick<ShardClient, 'pages' | 'get' | 'nodes' | 'close'>;
  connectKube(options: KubeConfigOptions): Pick<KubeClient, 'get' | 'listAll' | 'namespace' | 'close'>;
  loadContext(options: KubeConfigOptions): KubeContext | undefined;
}
