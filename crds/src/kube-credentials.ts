import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { isAbsolute, join, sep } from 'node:path';
import { isatty } from 'node:tty';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';

/** Files (token, certificate, key) are read again after this long, as client-go does: kubelets rotate them. */
const FILE_LIFE_MS = 60_000;
/** A credential this close to its expiry is renewed first, so that it does not expire on the way. */
const EXPIRY_MARGIN_MS = 10_000;
const PLUGIN_TIMEOUT_MS = 30_000;
/** A plugin that may talk to a person, who perhaps logs in through a browser. */
const INTERACTIVE_PLUGIN_TIMEOUT_MS = 300_000;
const PLUGIN_OUTPUT_LIMIT = 1 << 20;

/** Environment variables, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Who the caller is: an Authorization header, a client certificate and key (PEM), both, or neither. */
export interface Identity {
  authorization?: string;
  cert?: string;
  key?: string;
}

/** Gives the identity for the next request, renewing what expires. */
export interface Credentials {
  current(): Promise<Identity>;
  /** The server refused the current identity: whatever is cached is obtained anew. */
  forget(): void;
  close(): void;
}

/** `users[].user.exec` of a kubeconfig (client.authentication.k8s.io). */
export interface ExecPlugin {
  apiVersion?: string;
  command: string;
  args?: string[];
  env?: { name: string; value: string }[];
  installHint?: string;
  interactiveMode?: 'Never' | 'IfAvailable' | 'Always';
  provideClusterInfo?: boolean;
}

/** PEM or token that is given literally, or in a file that may be replaced at any time. */
export type Source = { text: string } | { path: string };

/** Reads a source; a file at most once a minute, and keeps the last good content over a failing re-read. */
export class SourceReader {
  readonly #source: Source;
  readonly #what: string;
  readonly #clock: Clock;
  #text: string | undefined;
  #readAt = Number.NEGATIVE_INFINITY;

  /** `what` names the kubeconfig's field in errors. */
  constructor(source: Source, what: string, clock: Clock) {
    this.#source = source;
    this.#what = what;
    this.#clock = clock;
  }

  async read(): Promise<string> {
    if ('text' in this.#source) return this.#source.text;
    if (this.#text !== undefined && this.#clock.monotonic() - this.#readAt < FILE_LIFE_MS) return this.#text;
    try {
      this.#text = (await readFile(this.#source.path, 'utf8')).trim();
    } catch (error) {
      // A file in the middle of its rotation: the old content is good until the server says otherwise.
      if (this.#text !== undefined && this.#readAt !== Number.NEGATIVE_INFINITY) return this.#text;
      const message = error instanceof Error ? error.message : String(error);
      throw new ShardError('invalidArgument', `cannot read the ${this.#what}: ${message}`, {}, error);
    }
    this.#readAt = this.#clock.monotonic();
    return this.#text;
  }

  forget(): void {
    this.#readAt = Number.NEGATIVE_INFINITY;
  }
}

/** Tokens and certificates from the kubeconfig itself or from files. */
export class StoredCredentials implements Credentials {
  readonly #token: SourceReader | undefined;
  readonly #cert: SourceReader | undefined;
  readonly #key: SourceReader | undefined;
  readonly #basic: string | undefined;

  constructor(o: { token?: Source; cert?: Source; key?: Source; basic?: string; clock: Clock }) {
    this.#token = o.token && new SourceReader(o.token, 'token file', o.clock);
    this.#cert = o.cert && new SourceReader(o.cert, 'client certificate', o.clock);
    this.#key = o.key && new SourceReader(o.key, 'client key', o.clock);
    this.#basic = o.basic;
  }

  async current(): Promise<Identity> {
    const [token, cert, key] = await Promise.all([
      this.#token?.read(),
      this.#cert?.read(),
      this.#key?.read(),
    ]);
    const authorization =
      token !== undefined
        ? `Bearer ${token}`
        : this.#basic && `Basic ${Buffer.from(this.#basic).toString('base64')}`;
    return { authorization, cert, key };
  }

  forget(): void {
    this.#token?.forget();
    this.#cert?.forget();
    this.#key?.forget();
  }

  close(): void {
    this.forget();
  }
}

interface ExecCredential {
  kind?: string;
  status?: {
    token?: string;
    clientCertificateData?: string;
    clientKeyData?: string;
    expirationTimestamp?: string;
  };
}

/** Runs a credential plugin; one run serves all who wait, and its answer is kept until it expires. */
export class ExecCredentials implements Credentials {
  readonly #plugin: ExecPlugin;
  readonly #cluster: object;
  readonly #folder: string | undefined;
  readonly #env: Environment;
  readonly #clock: Clock;
  readonly #interactive: boolean;
  readonly #stop = new AbortController();
  /** Ends a run. */
  readonly #signal: AbortSignal;
  #identity: Identity | undefined;
  #expiresAt = Number.POSITIVE_INFINITY;
  #running: Promise<Identity> | undefined;

  /**
   * `cluster` is told to the plugin if it asks for it; `folder` is what a relative command is relative to. A plugin may
   * talk to a person where there is a terminal, unless `interactive` is false.
   */
  constructor(o: {
    plugin: ExecPlugin;
    cluster: object;
    folder?: string;
    env: Environment;
    interactive?: boolean;
    signal?: AbortSignal;
    clock: Clock;
  }) {
    this.#plugin = o.plugin;
    this.#cluster = o.cluster;
    this.#folder = o.folder;
    this.#env = o.env;
    this.#clock = o.clock;
    this.#interactive = o.interactive !== false;
    this.#signal = o.signal ? AbortSignal.any([o.signal, this.#stop.signal]) : this.#stop.signal;
  }

  async current(): Promise<Identity> {
    if (this.#identity && this.#clock.now() < this.#expiresAt - EXPIRY_MARGIN_MS) return this.#identity;
    this.#running ??= this.#renew().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  forget(): void {
    this.#identity = undefined;
  }

  close(): void {
    this.#stop.abort(new ShardError('unavailable', 'the Kubernetes client is closed'));
  }

  async #renew(): Promise<Identity> {
    const output = await this.#run();
    const status = parseCredential(output)?.status;
    if (status?.token === undefined && status?.clientCertificateData === undefined)
      throw this.#error('printed no ExecCredential with a token or a client certificate');
    const expires = status.expirationTimestamp ? Date.parse(status.expirationTimestamp) : Number.NaN;
    this.#expiresAt = Number.isNaN(expires) ? Number.POSITIVE_INFINITY : expires;
    this.#identity = {
      authorization: status.token && `Bearer ${status.token}`,
      cert: status.clientCertificateData,
      key: status.clientKeyData,
    };
    return this.#identity;
  }

  #run(): Promise<string> {
    const { command, args = [], env = [], interactiveMode, provideClusterInfo } = this.#plugin;
    const terminal = interactiveMode !== 'Never' && this.#interactive && isatty(0);
    if (interactiveMode === 'Always' && !terminal)
      return Promise.reject(this.#error('needs a terminal (interactiveMode: Always), and there is none'));
    const info = {
      apiVersion: this.#plugin.apiVersion ?? 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      spec: { interactive: terminal, ...(provideClusterInfo ? { cluster: this.#cluster } : {}) },
    };
    const relative = this.#folder !== undefined && !isAbsolute(command) && command.includes(sep);
    const child = spawn(relative ? join(this.#folder as string, command) : command, args, {
      env: {
        ...this.#env,
        ...Object.fromEntries(env.map(({ name, value }) => [name, value])),
        KUBERNETES_EXEC_INFO: JSON.stringify(info),
      },
      stdio: [terminal ? 'inherit' : 'ignore', 'pipe', terminal ? 'inherit' : 'pipe'],
      signal: this.#signal,
      timeout: terminal ? INTERACTIVE_PLUGIN_TIMEOUT_MS : PLUGIN_TIMEOUT_MS,
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        if (output[name].length < PLUGIN_OUTPUT_LIMIT) output[name] += text;
      });
    return new Promise((resolve, reject) => {
      child.on('error', (error) => {
        // What it started may go on, and must not keep us.
        child.stdout?.destroy();
        child.stderr?.destroy();
        const missing = 'code' in error && error.code === 'ENOENT';
        reject(this.#error(missing ? 'was not found' : error.message, error));
      });
      child.on('close', (code, signal) => {
        const said = output.stderr.trim().split('\n').slice(-3).join(' ').slice(-500);
        if (code === 0) resolve(output.stdout);
        else if (signal !== null) reject(this.#error(`was ended by ${signal}, perhaps for taking too long`));
        else reject(this.#error(`failed with exit code ${code}${said === '' ? '' : `: ${said}`}`));
      });
    });
  }

  #error(problem: string, cause?: unknown): ShardError {
    const hint = this.#plugin.installHint?.trim().replaceAll('\n', ' ');
    return new ShardError(
      'unauthenticated',
      `the credential plugin ${this.#plugin.command} of the kubeconfig ${problem}${hint ? `. ${hint}` : ''}`,
      {},
      cause,
    );
  }
}

function parseCredential(output: string): ExecCredential | undefined {
  try {
    const parsed: unknown = JSON.parse(output);
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined;
  } catch {
    // Reported by the caller, without the text: it may hold half a token.
    return undefined;
  }
}

/**
 * Everything else a kubeconfig may ask for (`auth-provider`: OIDC), by client-node. Loaded only when it is
 * needed: importing client-node takes half a second and 80 MB, which a command line must not pay.
 */
export class AuthProviderCredentials implements Credentials {
  readonly #user: object;
  #config: Promise<{ applyToHTTPSOptions(o: object): Promise<void> }> | undefined;

  /** `user` is the kubeconfig's `users[].user`. */
  constructor(user: object) {
    this.#user = user;
  }

  async current(): Promise<Identity> {
    this.#config ??= this.#load();
    const options: { headers: Record<string, string>; cert?: Buffer | string; key?: Buffer | string } = {
      headers: {},
    };
    await (await this.#config).applyToHTTPSOptions(options);
    return {
      authorization: options.headers.Authorization,
      cert: options.cert?.toString(),
      key: options.key?.toString(),
    };
  }

  forget(): void {
    this.#config = undefined;
  }

  close(): void {
    this.forget();
  }

  async #load() {
    const { KubeConfig } = await import('@kubernetes/client-node');
    const config = new KubeConfig();
    // JSON is YAML, and client-node's own parser maps the field names.
    config.loadFromString(
      JSON.stringify({
        clusters: [{ name: 'cluster', cluster: { server: 'https://unused.invalid' } }],
        users: [{ name: 'user', user: this.#user }],
        contexts: [{ name: 'context', context: { cluster: 'cluster', user: 'user' } }],
        'current-context': 'context',
      }),
    );
    return config;
  }
}
