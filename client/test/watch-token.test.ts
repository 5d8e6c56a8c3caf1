import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ShardClient, type ShardClientOptions } from '@meshkit/client/shard-client';
import type { WatchOptions } from '@meshkit/client/watch';
import { ShardError } from '@meshkit/shards/errors';
import { problemOf } from '@meshkit/shards/problem';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CA, reply, ScriptedServer } from './server.ts';
import { eventsOf, playOn, Script, type StreamScript, view } from './watch-script.ts';

describe('the token of a watch', () => {
  let server: ScriptedServer;
  let stop: AbortController;
  let lost: string[];
  let folder: string;
  let file: string;

  const open = (options: Partial<ShardClientOptions>) =>
    new ShardClient({ server: server.url, ca: CA, random: () => 0, ...options });
  const play = (...scripts: StreamScript[]) => playOn(server, ...scripts);
  const watched = (count: number, options: WatchOptions, from: ShardClient) => {
    const onDisconnect = (error: ShardError) => void lost.push(error.code);
    return eventsOf(from, count, { signal: stop.signal, onDisconnect, ...options });
  };

  beforeEach(async () => {
    server = await ScriptedServer.start();
    stop = new AbortController();
    lost = [];
    folder = await mkdtemp(join(tmpdir(), 'meshkit-token-'));
    file = join(folder, 'token');
  });

  afterEach(async () => {
    stop.abort();
    await server.stop();
    await rm(folder, { recursive: true });
  });

  /** Only `exp` and `iat` count. */
  const jwt = (lifeSeconds: number, name: string) => {
    const iat = Date.now() / 1_000;
    const payload = Buffer.from(JSON.stringify({ iat, exp: iat + lifeSeconds, name })).toString('base64url');
    return `h.${payload}.s`;
  };

  it('is replaced before it expires, and the stream resumed with the new one', async () => {
    const [first, second] = [jwt(1, 'first'), jwt(3_600, 'second')];
    await writeFile(file, first);
    const following = open({ token: { file } });
    play(
      (script) => script.list(10),
      (script) => script.change(11, 'ADDED', view('a', 1)),
    );
    setTimeout(() => writeFile(file, second), 300);
    expect(await watched(2, {}, following)).toEqual(['SYNCED', 'ADDED a@1']);
    expect(server.requests.map(({ authorization }) => authorization)).toEqual([
      `Bearer ${first}`,
      `Bearer ${second}`,
    ]);
    expect(server.requests.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, 't10']);
    expect(lost).toEqual([]);
    await following.close();
  });

  it('is read again at once when the server has had enough of it, but not without end', async () => {
    const refusal = problemOf(new ShardError('unauthenticated', 'expired'));
    await writeFile(file, 'old');
    const following = open({ token: { file } });
    server.answer = ({ stream, authorization }) => {
      if (authorization === 'Bearer new') new Script(stream).change(11, 'ADDED', view('a', 1));
      else {
        const script = new Script(stream).list(10);
        void writeFile(file, 'new').then(() => script.say('shard-error', refusal, 't10'));
      }
    };
    expect(await watched(2, {}, following)).toEqual(['SYNCED', 'ADDED a@1']);
    server.answer = ({ stream }) => reply(stream, refusal, 401);
    await expect(watched(1, {}, following)).rejects.toMatchObject({ code: 'unauthenticated' });
    let given = 0;
    const endless = open({ token: () => `t${++given}` });
    await expect(watched(1, {}, endless)).rejects.toMatchObject({ code: 'unauthenticated' });
    await Promise.all([following.close(), endless.close()]);
  });

  it('is waited for when its source fails, once it has given one', async () => {
    let fails = false;
    const source = async () => {
      if (fails) throw new Error('the vault is sealed');
      return 't';
    };
    const patient = open({ token: source });
    const broken = open({ token: () => Promise.reject(new Error('no such vault')) });
    play(
      (script) => {
        fails = true;
        script.list(10).end();
      },
      (script) => script.change(11, 'ADDED', view('a', 1)),
    );
    const onDisconnect = ({ message }: ShardError) => {
      lost.push(message);
      if (lost.length === 4) fails = false;
    };
    expect(await watched(2, { onDisconnect }, patient)).toEqual(['SYNCED', 'ADDED a@1']);
    expect(lost.slice(1, 4)).toEqual(
      Array(3).fill('there is no token: the source of the token failed: the vault is sealed'),
    );
    await expect(watched(1, {}, broken)).rejects.toMatchObject({ code: 'unauthenticated' });
    await Promise.all([patient.close(), broken.close()]);
  });

  it('that is refused while its source fails is asked for again', async () => {
    const refusal = problemOf(new ShardError('unauthenticated', 'expired'));
    const given = ['old', undefined, 'new'];
    const source = async () => {
      const [token] = given.length > 1 ? given.splice(0, 1) : given;
      if (token === undefined) throw new Error('the vault is sealed');
      return token;
    };
    const patient = open({ token: source });
    server.answer = ({ stream, authorization }) => {
      if (authorization === 'Bearer new') new Script(stream).list(10);
      else reply(stream, refusal, 401);
    };
    expect(await watched(1, {}, patient)).toEqual(['SYNCED']);
    expect(lost).toEqual(['unauthenticated']);
    await patient.close();
  });

  it('whose source hangs holds up neither the end of a stream nor that of the watch', async () => {
    let hangs = false;
    const hanging = open({
      token: () => (hangs ? new Promise<string>(() => undefined) : jwt(1, 'short')),
    });
    play((script, { stream }) => {
      hangs = true;
      script.list(10);
      // After the renewal has begun.
      setTimeout(() => stream.end(), 1_300);
    });
    const onDisconnect = () => setTimeout(() => stop.abort(), 50);
    expect(await watched(9, { onDisconnect }, hanging)).toEqual(['SYNCED']);
    await hanging.close();
  });

  it('that is old when it is made is no reason to begin anew without a pause', async () => {
    let made = 0;
    const late = open({ token: () => jwt(-60, `${++made}`) });
    play((script) => script.list(10));
    setTimeout(() => stop.abort(), 500);
    expect(await watched(9, {}, late)).toEqual(['SYNCED']);
    expect(server.requests).toHaveLength(1);
    await late.close();
  });
});
