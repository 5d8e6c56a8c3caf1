import { ShardError } from '@meshkit/shards/errors';
import { describe, expect, it } from 'vitest';
import { Authorizer } from './access-review.ts';
import { REVIEW_CACHE_DEFAULTS, ReviewCache } from './review-cache.ts';
import { Authenticator } from './token-review.ts';

const clock = { now: () => 0, monotonic: () => 0, sleep: async () => undefined };
const cache = () => new ReviewCache<never>({ ...REVIEW_CACHE_DEFAULTS, clock }) as never;

interface Review {
  spec: { token: string; audiences?: string[] };
}

type Status = Record<string, unknown> | Error;

/** `known`: what kube-apiserver says of a token, by `token` (its own audience) or `token@audience`. */
function authenticator(known: Record<string, Status>, acceptClusterAudience = false) {
  const asked: string[] = [];
  const client = {
    async raw(_method: string, _path: string, options: { body?: unknown } = {}) {
      const { token, audiences } = (options.body as Review).spec;
      const question = audiences ? `${token}@${audiences}` : token;
      asked.push(question);
      const status = known[question] ?? { authenticated: false, error: 'unknown token' };
      if (status instanceof Error) throw status;
      return { status };
    },
  };
  const subject = new Authenticator({
    client,
    cache: cache(),
    audience: 'meshkit-shards',
    acceptClusterAudience,
  });
  return { asked, subject };
}

const jane = { username: 'jane', groups: ['devs', 'system:authenticated'] };
const yes = { authenticated: true, user: jane, audiences: ['meshkit-shards'] };

describe('Authenticator', () => {
  it('takes a token that kube-apiserver knows for our audience', async () => {
    const { subject, asked } = authenticator({ 't@meshkit-shards': yes });
    expect(await subject.authenticate('Bearer t')).toMatchObject({ user: 'jane', groups: jane.groups });
    expect(await subject.authenticate('bearer t')).toMatchObject({ user: 'jane' });
    expect(asked).toEqual(['t@meshkit-shards']);
  });

  it.each([
    [undefined, /no bearer token: send/],
    ['Basic amFuZTp4', /holds no bearer token: send/],
    ['Bearer', /holds no bearer token: send/],
    ['Bearer a b', /holds no bearer token: send/],
    ['Bearer t\u00e9', /holds no bearer token: send/],
    ['Bearer other', /not accepted: unknown token/],
  ])('answers 401 to %s', async (header, message) => {
    const refusal = authenticator({}).subject.authenticate(header);
    await expect(refusal).rejects.toMatchObject({ code: 'unauthenticated' });
    await expect(refusal).rejects.toThrow(message);
  });

  it('does not take a yes that is for another audience', async () => {
    const { subject } = authenticator({ 't@meshkit-shards': { ...yes, audiences: ['other'] } });
    await expect(subject.authenticate('Bearer t')).rejects.toThrow(
      'not meant for the audience meshkit-shards',
    );
  });

  it("does not take the cluster's own tokens unless told so", async () => {
    const known = { t: { authenticated: true, user: jane } };
    await expect(authenticator(known).subject.authenticate('Bearer t')).rejects.toMatchObject({
      code: 'unauthenticated',
    });
    expect(await authenticator(known, true).subject.authenticate('Bearer t')).toMatchObject({ user: 'jane' });
  });

  it.each([
    new ShardError('unavailable', 'connection refused'),
    new ShardError('timeout', 'no answer'),
    // Our own credentials are refused: that is not the caller's 401 or 403.
    new ShardError('unauthenticated', 'our token expired'),
    new ShardError('scopeMissing', 'we may not create tokenreviews'),
    new TypeError('broken'),
  ])('lets nobody in when it cannot ask: $message', async (error) => {
    const { subject } = authenticator({ 't@meshkit-shards': error });
    await expect(subject.authenticate('Bearer t')).rejects.toMatchObject({
      code: 'unavailable',
      details: { reason: 'reviewUnavailable' },
    });
  });

  it.each([
    ['system:node:node-1', ['system:nodes'], 'identityRefused'],
    ['system:kube-scheduler', [], 'identityRefused'],
    ['system:anonymous', ['system:unauthenticated'], 'identityRefused'],
    ['system:admin', ['system:masters'], undefined],
    ['system:serviceaccount:payments:router', ['system:serviceaccounts'], undefined],
  ])('%s in %j: %s', async (username, groups, code) => {
    const { subject } = authenticator({ 't@meshkit-shards': { ...yes, user: { username, groups } } });
    const outcome = await subject.authenticate('Bearer t').then(
      () => undefined,
      (error) => error.code,
    );
    expect(outcome).toBe(code);
  });
});

describe('Authorizer', () => {
  const identity = { user: 'jane', groups: ['devs'], key: 'k' };

  function authorizer(allowed: (attributes: Record<string, string>) => boolean) {
    const asked: Record<string, string>[] = [];
    const client = {
      async raw(_method: string, _path: string, options: { body?: unknown } = {}) {
        const { resourceAttributes } = (
          options.body as { spec: { resourceAttributes: Record<string, string> } }
        ).spec;
        asked.push(resourceAttributes);
        return { status: { allowed: allowed(resourceAttributes) } };
      },
    };
    return { asked, subject: new Authorizer({ client, cache: cache() }) };
  }

  it('asks Kubernetes for the verb on shardassignments, once', async () => {
    const { asked, subject } = authorizer(() => true);
    for (let i = 0; i < 3; i += 1) await subject.require(identity, 'read', { namespace: 'payments' });
    expect(asked).toEqual([
      { group: 'meshkit.omnirelay.io', resource: 'shardassignments', verb: 'read', namespace: 'payments' },
    ]);
  });

  it('asks about all namespaces with an empty name, and refuses with both ways out', async () => {
    const { asked, subject } = authorizer(({ namespace }) => namespace === 'payments');
    const refusal = subject.require(identity, 'read', {});
    await expect(refusal).rejects.toMatchObject({ code: 'scopeMissing', details: { namespace: '' } });
    await expect(refusal).rejects.toThrow(/-n NAME.*clusterrolebinding/);
    expect(asked[0]?.namespace).toBe('');
  });

  it('lets in who may read one shard only', async () => {
    const { subject } = authorizer(({ name }) => name === 'orders.0001');
    await subject.require(identity, 'read', { namespace: 'payments', name: 'orders.0001' });
    await expect(
      subject.require(identity, 'read', { namespace: 'payments', name: 'orders.0002' }),
    ).rejects.toMatchObject({ code: 'scopeMissing', details: { name: 'orders.0002' } });
  });

  it('serves every shard of a namespace from one answer', async () => {
    const { asked, subject } = authorizer(() => true);
    for (const name of ['a', 'b', 'c'])
      await subject.require(identity, 'read', { namespace: 'payments', name });
    expect(asked).toHaveLength(1);
  });
});
