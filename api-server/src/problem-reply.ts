import { ERRORS, ShardError } from '@meshkit/shards/errors';
import { type Fault, invalid, PROBLEM_MEDIA_TYPE, problemOf } from '@meshkit/shards/problem';
import type { FastifyError, FastifySchemaCompiler } from 'fastify';
import type { z } from 'zod';

/** An error as an answer: RFC 9457 problem details and the headers that belong to its status. */
export interface ProblemReply {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export function problemReply(error: ShardError): ProblemReply {
  const headers: Record<string, string> = {
    'content-type': PROBLEM_MEDIA_TYPE,
    // A refusal must not outlive its cause in some cache between us and the caller.
    'cache-control': 'no-store',
  };
  const challenge = challengeOf(error);
  if (challenge) headers['www-authenticate'] = challenge;
  if (ERRORS[error.code].retry) headers['retry-after'] = String(error.details.retryAfterSeconds ?? 1);
  if (Array.isArray(error.details.allow)) headers.allow = error.details.allow.join(', ');
  return { status: ERRORS[error.code].http, headers, body: JSON.stringify(problemOf(error)) };
}

/** RFC 6750, section 3: no error code when no token was sent, `invalid_token` for a bad one, `insufficient_scope` with the scope. */
function challengeOf({ code, details }: ShardError): string | undefined {
  const realm = 'Bearer realm="meshkit-shards"';
  if (code === 'unauthenticated') {
    return details.reason === 'tokenRejected'
      ? `${realm}, error="invalid_token", error_description="the token was not accepted"`
      : realm;
  }
  if (code === 'scopeMissing') return `${realm}, error="insufficient_scope", scope="${details.scope}"`;
  return undefined;
}

/** Whatever was thrown, as an error of the registry. `unexpected` is told about those that are our fault. */
export function shardErrorOf(error: unknown, unexpected: (error: unknown) => void): ShardError {
  if (error instanceof ShardError && error.code !== 'internal') return error;
  const { code, statusCode = 500, message } = error as FastifyError;
  if (code === 'FST_ERR_BAD_URL') {
    return invalid([{ pointer: '/path', detail: 'not a valid path: is its percent-encoding complete?' }]);
  }
  if (statusCode === 413) {
    const detail = 'is larger than this operation takes';
    return new ShardError('requestTooLarge', `the body ${detail}`, {
      errors: [{ pointer: '/body', detail }],
    });
  }
  if (statusCode >= 400 && statusCode < 500) return new ShardError('invalidArgument', message, {}, error);
  unexpected(error);
  return new ShardError('internal', 'the server failed on this request; its log says more', {}, error);
}

/** Checks a part of a request against its zod schema, and reports every fault of that part with its place. */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  const part = httpPart === 'params' ? 'path' : httpPart === 'querystring' ? 'query' : (httpPart ?? 'body');
  return (input) => {
    const result = schema.safeParse(input);
    if (result.success) return { value: result.data };
    return { error: invalid(result.error.issues.flatMap((issue) => faultsOf(part, issue, schema))) };
  };
};

function faultsOf(part: string, issue: z.core.$ZodIssue, schema: z.ZodType): Fault[] {
  const place = (path: readonly PropertyKey[]) => `/${[part, ...path.map(String)].join('/')}`;
  if (issue.code !== 'unrecognized_keys') return [{ pointer: place(issue.path), detail: issue.message }];
  const known = Object.keys((schema as Partial<z.ZodObject>).shape ?? {});
  const allowed = known.length > 0 ? `known are ${known.join(', ')}` : 'this operation has none';
  const detail = issue.path.length > 0 ? 'there is no such member' : `unknown parameter; ${allowed}`;
  return issue.keys.map((key) => ({ pointer: place([...issue.path, key]), detail }));
}
