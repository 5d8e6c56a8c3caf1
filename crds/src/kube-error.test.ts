import { describe, expect, test } from 'vitest';
import { connectionError, refusedAccess, retryAfterMs, statusError, statusOf } from './kube-error.ts';

const CALL = {
  what: 'list shardsets.meshkit.omnirelay.io in namespace payments',
  server: 'https://10.0.0.1:6443',
};
const PREFIX = 'cannot list shardsets.meshkit.omnirelay.io in namespace payments at https://10.0.0.1:6443:';

function status(code: number, reason: string, message: string, details?: object) {
  return statusError(CALL, {
    status: code,
    body: JSON.stringify({ kind: 'Status', code, reason, message, details }),
  });
}

describe('an answer other than 2xx', () => {
  test.each([
    [400, 'BadRequest', 'invalidArgument'],
    [401, 'Unauthorized', 'unauthenticated'],
    [403, 'Forbidden', 'scopeMissing'],
    [404, 'NotFound', 'notFound'],
    [409, 'Conflict', 'conflict'],
    [410, 'Expired', 'unavailable'],
    [422, 'Invalid', 'invalidArgument'],
    [429, 'TooManyRequests', 'unavailable'],
    [500, 'InternalError', 'internal'],
    [503, 'ServiceUnavailable', 'unavailable'],
    [504, 'Timeout', 'timeout'],
  ])('%i %s is %s', (code, reason, expected) => {
    const error = status(code, reason, 'words of Kubernetes');
    expect(error.code).toBe(expected);
    expect(error.message).toContain(`${PREFIX} words of Kubernetes (${code} ${reason})`);
    expect(error.details).toMatchObject({ status: code, reason, message: 'words of Kubernetes' });
  });

  test('says what to do where Kubernetes does not', () => {
    expect(status(401, 'Unauthorized', 'Unauthorized').message).toContain('log in again');
    expect(status(404, 'NotFound', 'the server could not find the requested resource').message).toContain(
      'are the CRDs of MeshKit Shards installed?',
    );
    expect(status(404, 'NotFound', 'shardsets "a" not found', { name: 'a' }).message).not.toContain('CRD');
    expect(status(409, 'AlreadyExists', 'shardsets "a" already exists').message).not.toContain(
      'Read the object',
    );
  });

  test('without a Status, keeps the text', () => {
    const error = statusError(CALL, { status: 502, body: '<h1>Bad gateway</h1>\n' });
    expect(error.message).toContain('<h1>Bad gateway</h1> (502)');
    expect(statusOf(error)).toBe(502);
    expect(statusError(CALL, { status: 500, body: '{"kind":' }).message).toContain('{"kind": (500)');
    expect(statusError(CALL, { status: 500, body: '' }).message).toContain('no message (500)');
  });

  test('tells how long to wait, from the header or the Status', () => {
    expect(retryAfterMs(statusError(CALL, { status: 429, body: '', retryAfter: '2' }))).toBe(2000);
    expect(retryAfterMs(status(429, 'TooManyRequests', 'slow down', { retryAfterSeconds: 1 }))).toBe(1000);
    expect(retryAfterMs(statusError(CALL, { status: 429, body: '' }))).toBeUndefined();
  });
});

describe('no answer', () => {
  test.each([
    ['ECONNREFUSED', 'Is the API server running'],
    ['ENOTFOUND', 'Is the server in the kubeconfig right?'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'Is the certificate-authority'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'Is the certificate-authority'],
    ['EPIPE', 'Try again later.'],
  ])('%s says what to look at', (code, hint) => {
    const error = connectionError(CALL, Object.assign(new Error('words of Node'), { code }));
    expect(error.code).toBe('unavailable');
    expect(error.message).toContain(`${PREFIX} words of Node. `);
    expect(error.message).toContain(hint);
    expect(statusOf(error)).toBeUndefined();
  });

  test('a connection that was cut is called so', () => {
    const error = connectionError(CALL, Object.assign(new Error('aborted'), { code: 'ECONNRESET' }));
    expect(error.message).toBe(`${PREFIX} the connection was cut. Try again later.`);
  });

  test('an error without words is named by its code', () => {
    const error = connectionError(CALL, Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' }));
    expect(error.message).toContain(`${PREFIX} ECONNREFUSED. `);
  });
});

describe('what was not authorized', () => {
  const refused = (message: string) => refusedAccess(status(403, 'Forbidden', message));
  const cannot = (where: string) =>
    `shardsets.a.b is forbidden: User "jane \\"j\\"" cannot list resource "shardsets" in API group "a.b" ${where}`;
  const known = { user: 'jane "j"', verb: 'list', resource: 'shardsets', group: 'a.b' };

  test('is known from the words of kube-apiserver', () => {
    expect(refused(`${cannot('in the namespace "payments"')}: RBAC: clusterrole "x" not found`)).toEqual({
      ...known,
      namespace: 'payments',
    });
    expect(refused(cannot('at the cluster scope'))).toEqual({ ...known, namespace: undefined });
  });

  test('is nothing that another error says', () => {
    expect(refused('ValidatingAdmissionPolicy denied request: no')).toBeUndefined();
    expect(refused('User "jane" cannot get path "/metrics"')).toBeUndefined();
    expect(refusedAccess(status(404, 'NotFound', cannot('at the cluster scope')))).toBeUndefined();
    expect(refusedAccess(new Error('no'))).toBeUndefined();
  });
});
