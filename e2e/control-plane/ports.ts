import { createServer } from 'node:net';

/** Below the range from which systems pick the local ports of outgoing connections (Linux: from 32768). */
const RANGE = { from: 20_000, to: 32_000 };

/**
 * `count` different free loopback ports. They lie outside the ephemeral range on purpose: while a server
 * restarts, a client that keeps dialling its port could otherwise be given that very port and block it.
 */
export async function freePorts(count: number, random: () => number = Math.random): Promise<number[]> {
  const found = new Set<number>();
  for (let tries = 0; found.size < count; tries++) {
    if (tries > 200) throw new Error(`no free loopback port between ${RANGE.from} and ${RANGE.to}`);
    const port = RANGE.from + Math.floor(random() * (RANGE.to - RANGE.from));
    if (!found.has(port) && (await isFree(port))) found.add(port);
  }
  return [...found];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(false);
      else reject(error);
    });
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
