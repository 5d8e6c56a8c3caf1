import { Agent, request } from 'undici';

export interface Answer {
  status: number;
  body: string;
}

/** One HTTPS endpoint on loopback with its own CA, kept apart from the project's client so that neither vouches for the other. */
export class AdminApi {
  readonly #url: string;
  readonly #agent: Agent;
  readonly #headers: Record<string, string>;

  constructor(options: { url: string; ca: string; token?: string; cert?: string; key?: string }) {
    this.#url = options.url;
    this.#headers = options.token ? { authorization: `Bearer ${options.token}` } : {};
    this.#agent = new Agent({ connect: { ca: options.ca, cert: options.cert, key: options.key } });
  }

  /** Rejects when there is no answer within `timeoutMs` (default 5,000); any status is an answer. */
  async call(method: 'GET' | 'POST', path: string, body?: object, timeoutMs = 5_000): Promise<Answer> {
    const response = await request(this.#url + path, {
      method,
      dispatcher: this.#agent,
      headers: { ...this.#headers, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    });
    return { status: response.statusCode, body: await response.body.text() };
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }
}
