import { type ServiceError, status as statusCodes } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo } from '@meshkit/proto/rpc/error_details';
import { Status } from '@meshkit/proto/rpc/status';
import { ERRORS, type ErrorCode, ShardError } from '@meshkit/shards/errors';
import { GROUP } from '@meshkit/shards/records';

const TYPE = 'type.googleapis.com/google.rpc.';

/**
 * The error that a failed call stands for: the server's own, by its ErrorInfo, with `details` as in its metadata, `errors`
 * (each `{pointer, detail}`) and `retryAfterMs`; anybody else's (a proxy's, or that of the way there) by its status alone.
 */
export function errorOfStatus(error: unknown, from: string): ShardError {
  if (error instanceof ShardError) return error;
  if (!isServiceError(error)) return new ShardError('internal', `${from}: ${String(error)}`, {}, error);
  const grpc = statusCodes[error.code];
  let code: ErrorCode | undefined;
  const details: Record<string, unknown> = { status: grpc };
  for (const { typeUrl, value } of detailsOf(error)) {
    if (typeUrl === `${TYPE}ErrorInfo`) {
      const { reason, domain, metadata } = ErrorInfo.decode(value);
      if (domain !== GROUP || !Object.hasOwn(ERRORS, reason)) continue;
      code = reason as ErrorCode;
      Object.assign(details, metadata);
    } else if (typeUrl === `${TYPE}RetryInfo`) {
      const { retryDelay } = RetryInfo.decode(value);
      if (retryDelay)
        details.retryAfterMs = Number(retryDelay.seconds) * 1_000 + retryDelay.nanos / 1_000_000;
    } else if (typeUrl === `${TYPE}BadRequest`) {
      const { fieldViolations } = BadRequest.decode(value);
      details.errors = fieldViolations.map(({ field, description }) => ({
        pointer: field,
        detail: description,
      }));
    }
  }
  if (code !== undefined) return new ShardError(code, error.details, details, error);
  return new ShardError(codeOf(grpc), `${from}: ${error.details || error.message}`, details, error);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === 'number';
}

function detailsOf({ metadata }: ServiceError): Status['details'] {
  const [bytes] = metadata?.get('grpc-status-details-bin') ?? [];
  if (!Buffer.isBuffer(bytes)) return [];
  try {
    return Status.decode(bytes).details;
  } catch (error) {
    // Whatever a proxy put there: the status itself still says what happened.
    if (error instanceof Error) return [];
    throw error;
  }
}

/** The first of the registry with that status; of those that could be the server's own, and otherwise our failure. */
function codeOf(grpc: string | undefined): ErrorCode {
  if (grpc === 'UNIMPLEMENTED' || grpc === 'RESOURCE_EXHAUSTED') {
    return grpc === 'UNIMPLEMENTED' ? 'methodNotAllowed' : 'rateLimited';
  }
  const codes = Object.keys(ERRORS) as ErrorCode[];
  return (
    codes.find((code) => ERRORS[code].grpc === grpc) ?? (grpc === 'CANCELLED' ? 'unavailable' : 'internal')
  );
}
