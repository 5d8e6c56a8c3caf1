import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'undici';
import { parse } from 'yaml';
import { issueClient } from '../control-plane/certificates.ts';
import type { ProvidedControlPlane, User } from '../control-plane/control-plane.ts';

/** An object, list or Status as answered; every field may be missing. */
export interface Body {
  kind?: string;
  apiVersion?: string;
  metadata: Metadata;
  items: Body[];
  spec: Record<string, unknown>;
  status: Record<string, unknown>;
  [field: string]: unknown;
}

interface Metadata {
  name: string;
  namespace: string;
  uid: string;
  resourceVersion: string;
  generation?: number;
  continue?: string;
  [field: string]: unknown;
}

export interface Answer {
  code: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  /** `{}` when the answer is no JSON. */
  body: Body;
}

export type Credentials = { token: string } | { cert: string; key: string } | undefined;
type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'HEAD' | 'OPTIONS';

export interface SendOptions {
  body?: unknown;
  headers?: Record<string, string>;
}

const MERGE = 'application/merge-patch+json';

/** Plain HTTP to one API server, so that no client library hides what the server does. */
export class Api {
  readonly #server: string;
  readonly #agent: Agent;
  readonly #headers: Record<string, string>;

  constructor(server: string, ca: string, credentials: Credentials) {
    this.#server = server;
    const token = credentials && 'token' in credentials ? credentials.token : undefined;
    this.#headers = token ? { authorization: `Bearer ${token}` } : {};
    this.#agent = new Agent({ connect: { ca, ...(token ? {} : credentials) } });
  }

  static async fromKubeconfig(yaml: string): Promise<Api> {
    const { clusters, users } = parse(yaml);
    const decode = (text: string) => Buffer.from(text, 'base64').toString();
    const { user } = users[0];
    const { server, 'certificate-authority-data': ca } = clusters[0].cluster;
    const certified = user['client-certificate-data'];
    const pair = certified && { cert: decode(certified), key: decode(user['client-key-data']) };
    return new Api(server, decode(ca), pair ?? { token: user.token });
  }

  /** As administrator of the plane that vitest started. */
  static async admin(plane: ProvidedControlPlane): Promise<Api> {
    return Api.fromKubeconfig(await readFile(plane.adminKubeconfig, 'utf8'));
  }

  /** By a client certificate of the plane's CA; a string is a bearer token, undefined is nobody. */
  static async as(plane: ProvidedControlPlane, who: User | string | undefined): Promise<Api> {
    const ca = readFileSync(plane.caCert, 'utf8');
    if (typeof who === 'string') return new Api(plane.url, ca, { token: who });
    if (!who) return new Api(plane.url, ca, undefined);
    const authority = { cert: ca, key: readFileSync(plane.caKey, 'utf8') };
    return new Api(plane.url, ca, await issueClient(authority, who));
  }

  async send(method: Method, path: string, { body, headers }: SendOptions = {}): Promise<Answer> {
    const sent = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
    const type = sent === undefined ? {} : { 'content-type': 'application/json' };
    const response = await request(this.#server + path, {
      method,
      dispatcher: this.#agent,
      headers: { ...this.#headers, ...type, ...headers },
      body: sent,
      signal: AbortSignal.timeout(20_000),
    });
    const text = await response.body.text();
    const json = text.startsWith('{') ? JSON.parse(text) : {};
    return { code: response.statusCode, headers: response.headers, text, body: json };
  }

  get(path: string, headers?: Record<string, string>): Promise<Answer> {
    return this.send('GET', path, { headers });
  }

  post(path: string, body: unknown): Promise<Answer> {
    return this.send('POST', path, { body });
  }

  put(path: string, body: unknown): Promise<Answer> {
    return this.send('PUT', path, { body });
  }

  patch(path: string, body: unknown, type = MERGE): Promise<Answer> {
    return this.send('PATCH', path, { body, headers: { 'content-type': type } });
  }

  delete(path: string, body?: unknown): Promise<Answer> {
    return this.send('DELETE', path, { body });
  }

  /** Opens a watch; resolves when the server has answered. Right after its start, the real one asks for patience (429). */
  async watch(path: string, headers: Record<string, string> = {}): Promise<Watch> {
    const watch = await this.#open(path, headers);
    if (watch.code !== 429) return watch;
    watch.close();
    await new Promise((resolve) => setTimeout(resolve, 200));
    return this.watch(path, headers);
  }

  async #open(path: string, headers: Record<string, string>): Promise<Watch> {
    const abort = new AbortController();
    const { statusCode, body } = await request(this.#server + path, {
      dispatcher: this.#agent,
      headers: { ...this.#headers, ...headers },
      signal: AbortSignal.any([abort.signal, AbortSignal.timeout(40_000)]),
    });
    return new Watch(statusCode, body, () => abort.abort());
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }
}

export interface WatchEvent {
  type: string;
  object: Body;
}

/** The events of one watch, in order. */
export class Watch {
  readonly code: number;
  readonly #events: AsyncGenerator<WatchEvent>;
  readonly #abort: () => void;

  constructor(code: number, body: AsyncIterable<Buffer>, abort: () => void) {
    this.code = code;
    this.#events = lines(body);
    this.#abort = abort;
  }

  /** The next `count` events, or fewer when the watch ends before. */
  async next(count: number): Promise<WatchEvent[]> {
    const events: WatchEvent[] = [];
    while (events.length < count) {
      const { value, done } = await this.#events.next();
      if (done) break;
      events.push(value);
    }
    return events;
  }

  close(): void {
    this.#abort();
  }
}

async function* lines(body: AsyncIterable<Buffer>): AsyncGenerator<WatchEvent> {
  let rest = '';
  for await (const chunk of body) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    for (const line of parts) if (line) yield JSON.parse(line) as WatchEvent;
  }
}

/** `ADDED a`, `DELETED b`: what a sequence of events says, short enough to compare at a glance. */
export function told(events: readonly WatchEvent[]): string[] {
  return events.map(({ type, object }) => `${type} ${object.metadata?.name ?? object.reason ?? ''}`.trim());
}

/** A namespace of its own for a test, and a counter for names. */
export async function freshNamespace(api: Api): Promise<string> {
  const { body, code } = await api.post('/api/v1/namespaces', { metadata: { generateName: 'conformance-' } });
  if (code !== 201) throw new Error(`no namespace: ${code} ${body.message}`);
  return body.metadata.name;
}

/** Repeats until `holds` says yes of the answer; fails with the last answer after `ms`. */
export async function until(
  ask: () => Promise<Answer>,
  holds: (answer: Answer) => boolean,
  ms = 20_000,
): Promise<Answer> {
  const deadline = performance.now() + ms;
  while (true) {
    const answer = await ask();
    if (holds(answer)) return answer;
    if (performance.now() > deadline)
      throw new Error(`still ${answer.code} after ${ms} ms: ${answer.text.slice(0, 500)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export const GROUP = 'conformance.meshkit.omnirelay.io';
export const API_VERSION = `${GROUP}/v1`;
export const ROOT = `/apis/${API_VERSION}`;
const DEFINITIONS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

/** A kind that uses every part of a schema that the embedded plane knows. */
const PROBES = parse(readFileSync(new URL('./conformance-probes.yaml', import.meta.url), 'utf8'));

export function isEstablished({ body }: Answer): boolean {
  const conditions = (body.status?.conditions ?? []) as { type: string; status: string }[];
  return conditions.some(({ type, status }) => type === 'Established' && status === 'True');
}

/** Serves Probes; any number of test files may ask at the same time. */
export async function installProbes(api: Api): Promise<void> {
  const path = `${DEFINITIONS}/${PROBES.metadata.name}`;
  if ((await api.get(path)).code === 404) await api.post(DEFINITIONS, PROBES);
  await until(() => api.get(path), isEstablished);
  await until(
    () => api.get(`${ROOT}/probes`),
    ({ code }) => code === 200,
  );
}

export function probe(
  name: string,
  spec: object = { color: 'Red' },
  metadata: object = {},
  more: object = {},
): object {
  return { apiVersion: API_VERSION, kind: 'Probe', metadata: { name, ...metadata }, spec, ...more };
}

export function probesIn(namespace: string): string {
  return `${ROOT}/namespaces/${namespace}/probes`;
}
