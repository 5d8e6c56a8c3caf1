import { expect, test } from 'vitest';
import { parseAuditLine } from './audit.ts';

/** As kube-apiserver 1.37 writes it, shortened by what is not read. */
const EVENT = {
  kind: 'Event',
  apiVersion: 'audit.k8s.io/v1',
  level: 'Metadata',
  stage: 'ResponseComplete',
  requestURI: '/apis/meshkit.omnirelay.io/v1alpha1/namespaces/payments/shardassignments/orders.0001/status',
  verb: 'update',
  user: {
    username: 'system:serviceaccount:meshkit-system:meshkit-operator',
    groups: ['system:authenticated'],
  },
  objectRef: {
    resource: 'shardassignments',
    namespace: 'payments',
    name: 'orders.0001',
    apiGroup: 'meshkit.omnirelay.io',
    apiVersion: 'v1alpha1',
    subresource: 'status',
  },
  responseStatus: { metadata: {}, code: 200 },
  requestReceivedTimestamp: '2026-11-23T08:43:50.091316Z',
};

test('a completed request is read in full', () => {
  expect(parseAuditLine(JSON.stringify(EVENT))).toEqual({
    user: 'system:serviceaccount:meshkit-system:meshkit-operator',
    verb: 'update',
    group: 'meshkit.omnirelay.io',
    resource: 'shardassignments',
    subresource: 'status',
    namespace: 'payments',
    name: 'orders.0001',
    dryRun: false,
    code: 200,
    at: Date.parse('2026-11-23T08:43:50.091Z'),
  });
});

test('a dry run is told from a write', () => {
  const dryRun = (query: string) =>
    parseAuditLine(JSON.stringify({ ...EVENT, requestURI: `${EVENT.requestURI}?${query}` }))?.dryRun;
  expect(dryRun('dryRun=All&fieldManager=kubectl')).toBe(true);
  for (const query of ['fieldManager=dryRun', 'dryRun=', 'dryRun=None', 'dryRun=All&dryRun=None'])
    expect(dryRun(query)).toBe(false);
});

test('the core group and requests for no resource have empty names; other stages do not count', () => {
  const core = { ...EVENT, objectRef: { resource: 'namespaces', name: 'payments', apiVersion: 'v1' } };
  expect(parseAuditLine(JSON.stringify(core))).toMatchObject({ group: '', resource: 'namespaces' });
  const version = { ...EVENT, objectRef: undefined, requestURI: '/version', verb: 'get' };
  expect(parseAuditLine(JSON.stringify(version))).toMatchObject({ group: '', resource: '', verb: 'get' });
  expect(parseAuditLine(JSON.stringify({ ...EVENT, stage: 'ResponseStarted' }))).toBeUndefined();
});
