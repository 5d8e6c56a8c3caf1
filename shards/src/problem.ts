import { ERRORS, type ErrorCode, ShardError } from './errors.ts';

/**
 * An error as HTTP carries it: RFC 9457 problem details with our `code`. Further members are the error's details:
 * `errors` (what is wrong and where), `scope`, `check`, `grant`, `reason` and so on, see docs/errors.md.
 */
export interface Problem {
  type: string;
  title: string;
  status: number;
  code: ErrorCode;
  detail: string;
  errors?: readonly Fault[];
  [detail: string]: unknown;
}

/** One thing that is wrong with a request; `pointer` is `/query/NAME`, `/path/NAME`, `/header/NAME` or a place in the body. */
export interface Fault {
  pointer: string;
  detail: string;
}

/** What people call the place: the last part of it. */
export function nameOf(pointer: string): string {
  return pointer.slice(pointer.lastIndexOf('/') + 1);
}

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

export function problemOf(error: ShardError): Problem {
  const { http, title } = ERRORS[error.code];
  const standard = {
    type: `urn:meshkit:error:${error.code}`,
    title,
    status: http,
    code: error.code,
    detail: error.message,
  };
  // Twice, so that the standard members come first and no detail can replace one.
  return { ...standard, ...error.details, ...standard };
}

/**
 * The error that a failed HTTP answer stands for. Answers that are not ours (a proxy's HTML page, say) are
 * classified by their status alone.
 */
export function errorOfProblem(status: number, body: unknown, from: string): ShardError {
  if (isProblem(body)) {
    const { type: _type, title: _title, status: _status, code, detail, ...details } = body;
    return new ShardError(code, detail, { ...details, status });
  }
  const message = `${from} answered ${status} without a problem document; is it a MeshKit API server?`;
  return new ShardError(codeOfStatus(status), message, { status });
}

function isProblem(body: unknown): body is Problem {
  if (typeof body !== 'object' || body === null) return false;
  const { code, detail } = body as Partial<Problem>;
  return typeof code === 'string' && Object.hasOwn(ERRORS, code) && typeof detail === 'string';
}

function codeOfStatus(status: number): ErrorCode {
  const codes = Object.keys(ERRORS) as ErrorCode[];
  const exact = codes.find((code) => ERRORS[code].http === status);
  return exact ?? (status >= 500 ? 'unavailable' : 'invalidArgument');
}

/** An `invalidArgument` that points at each fault; the message joins them, so that it reads well on its own. */
export function invalid(faults: readonly Fault[]): ShardError {
  const message = faults.map(({ pointer, detail }) => `${nameOf(pointer)}: ${detail}`);
  return new ShardError('invalidArgument', message.join('; '), { errors: faults });
}
