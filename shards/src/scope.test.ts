import { describe, expect, it } from 'vitest';
import { scopeMissing } from './scope.ts';

describe('scopeMissing', () => {
  it('tells a person what is missing, how to check it and who grants it', () => {
    const error = scopeMissing('jane', 'operate', { namespace: 'payments' });
    expect(error.message).toBe(
      'missing scope mesh.operate in namespace payments for user jane; ' +
        'check it: kubectl auth can-i operate shardassignments.meshkit.omnirelay.io -n payments; ' +
        'have it granted: kubectl create rolebinding meshkit-shards-operator-jane ' +
        '--clusterrole=meshkit-shards-operator --user=jane -n payments',
    );
    expect(error.details).toMatchObject({ scope: 'mesh.operate', namespace: 'payments', user: 'jane' });
  });

  it('names both ways out of a list over all namespaces', () => {
    const { message } = scopeMissing('jane', 'read', {});
    expect(message).toContain('missing scope mesh.read in all namespaces for user jane');
    expect(message).toContain('-n NAME');
    expect(message).toContain('kubectl create clusterrolebinding meshkit-shards-reader-jane');
  });

  it('speaks of service accounts in their own flags', () => {
    const { details } = scopeMissing('system:serviceaccount:edge:router', 'read', { namespace: 'payments' });
    expect(details.check).toBe(
      'kubectl auth can-i read shardassignments.meshkit.omnirelay.io -n payments --as system:serviceaccount:edge:router',
    );
    expect(details.grant).toContain('--serviceaccount=edge:router -n payments');
  });

  it('quotes a name that a shell would take apart', () => {
    const { details } = scopeMissing("o'neil; rm -rf /", 'read', { namespace: 'payments' });
    expect(details.grant).toContain(`--user='o'\\''neil; rm -rf /'`);
    expect(details.grant).toContain('meshkit-shards-reader-o-neil-rm-rf ');
  });
});
