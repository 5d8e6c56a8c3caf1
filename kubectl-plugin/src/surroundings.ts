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

/** What the program needs of the API server's client. */
export type ApiClient = Pick<
  ShardClient,
  | 'pages'
  | 'get'
  | 'nodes'
  | 'watch'
  | 'simulate'
  | 'explain'
  | 'diff'
  | 'history'
  | 'about'
  | 'status'
  | 'access'
  | 'close'
>;
/** What the program needs of a client for Kubernetes. */
export type Kube = Pick<
  KubeClient,
  'server' | 'namespace' | 'get' | 'list' | 'listAll' | 'watch' | 'raw' | 'close'
>;

/** Everything that the program touches outside itself, so that a test can stand in for it. */
export interface Surroundings {
  stdout: Output;
  stderr: Output;
  env: Readonly<Record<string, string | undefined>>;
  clock: Clock;
  /** In [0, 1), for jitter. */
  random: () => number;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  files: Files;
  /** Loaded when they are needed: a program that starts fast leaves out what one run does not use. */
  connectApi(options: ShardClientOptions): Promise<ApiClient>;
  connectKube(options: KubeConfigOptions): Promise<Kube>;
  loadContext(options: KubeConfigOptions): Promise<KubeContext | undefined>;
}

export interface Files {
  read(path: string): Promise<string>;
  /** Files below a folder, sorted; undefined when the path is a file. Rejects when there is neither. */
  below(path: string): Promise<string[] | undefined>;
  /** All of standard input. */
  stdin(): Promise<string>;
}

const UNREAD: Record<string, string> = {
  ENOENT: 'there is no such file or folder',
  EACCES: 'you may not read it',
  EISDIR: 'it is a folder',
};

/** Why a file could not be read, without the words of the system call. */
export function whyUnread(error: unknown): string {
  const { code = '', message = String(error) } = error as NodeJS.ErrnoException;
  return UNREAD[code] ?? message;
}
