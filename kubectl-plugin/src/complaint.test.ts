import { statusError } from '@meshkit/crds/kube-error';
import { ShardError } from '@meshkit/shards/errors';
import { scopeMissing } from '@meshkit/shards/scope';
import { expect, it } from 'vitest';
import { complaint } from './complaint.ts';

it('names the flag that a moment came by', () => {
  const errors = [{ pointer: '/query/since', detail: 'not a time' }];
  const error = new ShardError('invalidArgument', 'since: not a time', { errors });
  expect(complaint(error, false)).toBe('error: --since: not a time\n');
});

it('says from where on something is known', () => {
  const error = new ShardError('tokenExpired', 'the history begins later', { floor: '268', head: '833' });
  expect(complaint(error, false)).toBe('error: the history begins later\n  earliest:     268\n');
});

const refusal = (message: string) =>
  statusError(
    { what: 'do it', server: 'https://k8s' },
    { status: 403, body: { reason: 'Forbidden', message } },
  );
const words = (verb: string, resource: string, where: string, user = 'jane') =>
  `it is forbidden: User "${user}" cannot ${verb} resource "${resource}" in API group "meshkit.omnirelay.io" ${where}`;

it.each<[string, string, string[]]>([
  [
    'to look',
    words('list', 'meshnodes', 'in the namespace "fleet"'),
    [
      '  check it:     kubectl auth can-i list meshnodes.meshkit.omnirelay.io -n fleet',
      '  grant it:     kubectl create rolebinding meshkit-shards-reader-jane --clusterrole=meshkit-shards-reader --user=jane -n fleet',
    ],
  ],
  [
    'to look everywhere',
    words('watch', 'shardassignments', 'at the cluster scope'),
    [
      '  narrow it:    -n NAMESPACE, one that you may read',
      '  check it:     kubectl auth can-i watch shardassignments.meshkit.omnirelay.io --all-namespaces',
      '  grant it:     kubectl create clusterrolebinding meshkit-shards-reader-jane --clusterrole=meshkit-shards-reader --user=jane',
    ],
  ],
  [
    'to apply, of a program',
    words('patch', 'shardsets', 'in the namespace "payments"', 'system:serviceaccount:ci:robot'),
    [
      '  check it:     kubectl auth can-i patch shardsets.meshkit.omnirelay.io -n payments --as system:serviceaccount:ci:robot',
      '  grant it:     kubectl create rolebinding meshkit-shards-operator-ci-robot --clusterrole=meshkit-shards-operator --serviceaccount=ci:robot -n payments',
    ],
  ],
  ['what is not ours', words('list', 'pods', 'in the namespace "a"').replace('meshkit.omnirelay.io', ''), []],
  ['what no role for people carries', words('update', 'shardsets/status', 'in the namespace "a"'), []],
  ['admission', 'ValidatingAdmissionPolicy x denied request: no', []],
])('says how to get the right that Kubernetes asks for: %s', (_name, message, lines) => {
  const [error, ...rest] = complaint(refusal(message), false).trimEnd().split('\n');
  expect(error).toContain(message);
  expect(rest).toEqual(lines);
});

it('checks and grants where it was refused: the check as the same user, the grant as somebody else', () => {
  const error = scopeMissing('jane', 'read', { namespace: 'payments' });
  const flags = { mode: 'api', context: 'prod', user: 'jane', token: 'secret' } as const;
  const [, check, grant] = complaint(error, false, flags).split('\n');
  expect(check).toMatch(/ -n payments --context prod --user jane$/);
  expect(grant).toMatch(/ -n payments --context prod$/);
});
