import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

interface Pair {
  client: Socket;
  server: Socket;
  /** Both ends stay open, and nothing gets through any more. */
  frozen: boolean;
}

/** A TCP proxy on loopback that breaks connections in the ways in which networks do. It never looks into what it carries. */
export class TcpProxy {
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #target: number;
  #refusing = false;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  /** In front of a port on loopback. */
  static async start(target: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  get target(): number {
    return this.#target;
  }

  /** New connections go there; those that are open stay where they are. */
  retarget(port: number): void {
    this.#target = port;
  }

  /** Every connection ends at once, by RST to both sides. */
  reset(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.resetAndDestroy();
    }
    this.#pairs.clear();
  }

  /** Connections that are open now are half-open from now on: neither side hears anything more, nor that it is over. */
  freeze(): void {
    for (const pair of this.#pairs) pair.frozen = true;
  }

  /** The frozen ones end: what got lost in them cannot come any more. */
  thaw(): void {
    for (const pair of this.#pairs) {
      if (!pair.frozen) continue;
      this.#pairs.delete(pair);
      pair.client.resetAndDestroy();
      pair.server.resetAndDestroy();
    }
  }

  /** While true, new connections are reset at once. */
  refuse(refusing: boolean): void {
    this.#refusing = refusing;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.reset();
    await closed;
  }

  #accept(client: Socket): void {
    if (this.#refusing) {
      client.resetAndDestroy();
      return;
    }
    const server = connect({ host: '127.0.0.1', port: this.#target });
    const pair: Pair = { client, server, frozen: false };
    this.#pairs.add(pair);
    this.#carry(pair, client, server);
    this.#carry(pair, server, client);
  }

  #carry(pair: Pair, from: Socket, to: Socket): void {
    from.setNoDelay(true);
    from.on('data', (bytes) => {
      if (pair.frozen || to.destroyed) return;
      if (!to.write(bytes)) {
        from.pause();
        to.once('drain', () => from.resume());
      }
    });
    from.on('end', () => {
      if (!pair.frozen) to.end();
    });
    // The other side learns of a failure by an end without ceremony, as through a router.
    from.on('error', () => from.destroy());
    from.on('close', () => {
      if (!this.#pairs.delete(pair) || pair.frozen) return;
      if (from.errored) to.resetAndDestroy();
      else to.end();
      // Paused for the sake of one who is gone, it would never hear that it has ended as well.
      to.resume();
    });
  }
}
