import { type ErrorCode, ShardError } from '@meshkit/shards/errors';
import type { RefusedAccess } from '@meshkit/shards/scope';

/** A call as error messages name it: `list shardassignments in namespace payments`, and at which server. */
export interface CallSite {
  what: string;
  server: string;
}

/** One thing that is wrong with an object; `field` is a path such as `spec.shards.count`. */
export interface StatusCause {
  reason?: string;
  message?: string;
  field?: string;
}

/** Kubernetes' own account of a refusal (meta/v1 Status), as far as it is read here. */
export interface Status {
  kind?: string;
  code?: number;
  reason?: string;
  message?: string;
  details?: { name?: string; retryAfterSeconds?: number; causes?: readonly StatusCause[] };
}

const CODES: Record<number, ErrorCode> = {
  400: 'invalidArgument',
  401: 'unauthenticated',
  403: 'scopeMissing',
  404: 'notFound',
  405: 'methodNotAllowed',
  406: 'notAcceptable',
  408: 'timeout',
  409: 'conflict',
  410: 'unavailable',
  412: 'conflict',
  413: 'requestTooLarge',
  415: 'invalidArgument',
  422: 'invalidArgument',
  429: 'unavailable',
  501: 'methodNotAllowed',
  502: 'unavailable',
  503: 'unavailable',
  504: 'timeout',
};

/** What to do, where Kubernetes' message does not say it. */
function advice(status: number, body: Status): string {
  if (status === 401)
    return 'The credentials were refused: log in again, or check the token or certificate in the kubeconfig.';
  if (status === 403) return 'Ask an administrator of the cluster for a role that allows it.';
  if (status === 404 && body.details?.name === undefined)
    return 'The server does not know this resource: are the CRDs of MeshKit Shards installed?';
  if (status === 409 && body.reason !== 'AlreadyExists')
    return 'Read the object again and repeat the change.';
  if (status === 429 || status === 502 || status === 503 || status === 504) return 'Try again later.';
  return '';
}

/** One sentence ends, the next begins: messages of Kubernetes come with and without a full stop. */
function sentences(first: string, second: string): string {
  return second === '' ? first : `${first.replace(/[.\s]+$/, '')}. ${second}`;
}

function parseStatus(body: string): Status {
  const status: Status = { message: body.trim() };
  if (!body.startsWith('{')) return status;
  try {
    const parsed: unknown = JSON.parse(body);
    return typeof parsed === 'object' && parsed !== null ? parsed : status;
  } catch {
    // A proxy's or a truncated body is no Status: its text is then all there is to report.
    return status;
  }
}

/**
 * The error of an answer other than 2xx, or of an ERROR event inside a watch. `details` has `status` (HTTP),
 * `reason`, `message` and `causes` as Kubernetes gave them, and `retryAfterSeconds` where it named one.
 */
export function statusError(
  call: CallSite,
  answer: { status: number; body: string | Status; retryAfter?: string | undefined },
): ShardError {
  const body = typeof answer.body === 'string' ? parseStatus(answer.body) : answer.body;
  const reason = body.reason || undefined;
  const message = (body.message || reason || 'no message').slice(0, 4096);
  const retryAfter = Number(answer.retryAfter ?? body.details?.retryAfterSeconds ?? Number.NaN);
  const code = CODES[answer.status] ?? (answer.status < 500 ? 'invalidArgument' : 'internal');
  const label = reason === undefined ? `${answer.status}` : `${answer.status} ${reason}`;
  return new ShardError(
    code,
    sentences(`cannot ${call.what} at ${call.server}: ${message} (${label})`, advice(answer.status, body)),
    {
      status: answer.status,
      reason,
      message,
      server: call.server,
      ...(body.details?.causes ? { causes: body.details.causes } : {}),
      ...(retryAfter >= 0 ? { retryAfterSeconds: retryAfter } : {}),
    },
  );
}

const CONNECTION_ADVICE: Record<string, string> = {
  ECONNREFUSED: 'Is the API server running, and is the server in the kubeconfig right?',
  ENOTFOUND: 'Is the server in the kubeconfig right?',
  EAI_AGAIN: 'Does name resolution work?',
  EHOSTUNREACH: 'Is the network, or the VPN, up?',
  ENETUNREACH: 'Is the network, or the VPN, up?',
  ETIMEDOUT: 'Is the network, or the VPN, up?',
  EPROTO: 'Does this port speak TLS?',
};

const DISTRUST = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ALTNAME/;

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** The error of a call that got no answer, or an answer cut short. Its details have no `status`. */
export function connectionError(call: CallSite, error: unknown): ShardError {
  if (error instanceof ShardError) return error;
  const code = codeOf(error);
  const words = error instanceof Error ? error.message || code : String(error);
  // Node has three wordings for it ("aborted" among them), and none says it.
  const message = code === 'ECONNRESET' ? 'the connection was cut' : words;
  const hint = DISTRUST.test(code)
    ? 'Is the certificate-authority in the kubeconfig the one of this server?'
    : (CONNECTION_ADVICE[code] ?? 'Try again later.');
  return new ShardError(
    'unavailable',
    sentences(`cannot ${call.what} at ${call.server}: ${message}`, hint),
    { server: call.server, ...(code === '' ? {} : { reason: code }) },
    error,
  );
}

export function deadlineError(call: CallSite, ms: number): ShardError {
  return new ShardError(
    'timeout',
    `cannot ${call.what} at ${call.server}: no answer within ${ms / 1000} s. Is the network up? Try again later.`,
    { server: call.server },
  );
}

/** The peer of an open watch says nothing any more. */
export function silenceError(call: CallSite, ms: number): ShardError {
  return new ShardError(
    'timeout',
    `cannot ${call.what} at ${call.server}: the connection has been silent for ${ms / 1000} s.`,
    { server: call.server },
  );
}

/** An answer that is not what the Kubernetes API promises: malformed, too large, of an unknown type. */
export function protocolError(call: CallSite, problem: string, cause?: unknown): ShardError {
  return new ShardError(
    'internal',
    `cannot ${call.what} at ${call.server}: ${problem}. Is this a Kubernetes API server, with no proxy that changes answers?`,
    { server: call.server },
    cause,
  );
}

/** The HTTP status behind an error; absent when no answer came. */
export function statusOf(error: unknown): number | undefined {
  const status = error instanceof ShardError ? error.details.status : undefined;
  return typeof status === 'number' ? status : undefined;
}

/** The words of every authorizer of kube-apiserver (`forbiddenMessage` in apiserver/pkg/endpoints/handlers/responsewriters). */
const FORBIDDEN =
  /User "((?:[^"\\]|\\.)*)" cannot (\S+) resource "([^"]*)" in API group "([^"]*)" (?:in the namespace "([^"]*)"|at the cluster scope)/;

/** What Kubernetes did not authorize; undefined for every other error, refusals of admission among them. */
export function refusedAccess(error: unknown): RefusedAccess | undefined {
  if (!(error instanceof ShardError) || error.details.status !== 403) return undefined;
  const found = FORBIDDEN.exec(String(error.details.message));
  if (!found) return undefined;
  const [, user = '', verb = '', resource = '', group = '', namespace] = found;
  return { user: user.replaceAll(/\\(["\\])/g, '$1'), verb, resource, group, namespace };
}

/** How long the server asked to wait, in milliseconds. */
export function retryAfterMs(error: unknown): number | undefined {
  const seconds = error instanceof ShardError ? error.details.retryAfterSeconds : undefined;
  return typeof seconds === 'number' ? seconds * 1000 : undefined;
}
