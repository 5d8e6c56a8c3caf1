/**
 * The one error registry: code -> how each surface reports it. HTTP problems, gRPC statuses and CLI exit
 * codes derive from this table; docs/errors.md documents every row.
 */
interface ErrorRow {
  http: number;
  grpc: string;
  exit: number;
  /** Whether the same request may succeed later without being changed. */
  retry: boolean;
  title: string;
}

export const ERRORS = {
  invalidArgument: { http: 400, grpc: 'INVALID_ARGUMENT', exit: 2, retry: false, title: 'Invalid argument' },
  tokenInvalid: {
    http: 400,
    grpc: 'INVALID_ARGUMENT',
    exit: 2,
    retry: false,
    title: 'Token or cursor not valid',
  },
  filterMismatch: {
    http: 400,
    grpc: 'INVALID_ARGUMENT',
    exit: 2,
    retry: false,
    title: 'Token or cursor of other filters',
  },
  unauthenticated: { http: 401, grpc: 'UNAUTHENTICATED', exit: 3, retry: false, title: 'Not authenticated' },
  scopeMissing: { http: 403, grpc: 'PERMISSION_DENIED', exit: 3, retry: false, title: 'Missing scope' },
  identityRefused: {
    http: 403,
    grpc: 'PERMISSION_DENIED',
    exit: 3,
    retry: false,
    title: 'Identity not accepted here',
  },
  notFound: { http: 404, grpc: 'NOT_FOUND', exit: 4, retry: false, title: 'Not found' },
  methodNotAllowed: { http: 405, grpc: 'UNIMPLEMENTED', exit: 2, retry: false, title: 'Method not allowed' },
  notAcceptable: { http: 406, grpc: 'INVALID_ARGUMENT', exit: 2, retry: false, title: 'Not acceptable' },
  conflict: { http: 409, grpc: 'ABORTED', exit: 5, retry: true, title: 'Changed since it was read' },
  tokenExpired: { http: 410, grpc: 'OUT_OF_RANGE', exit: 7, retry: false, title: 'Resume token expired' },
  cursorExpired: { http: 410, grpc: 'OUT_OF_RANGE', exit: 7, retry: false, title: 'Cursor expired' },
  lineageChanged: {
    http: 410,
    grpc: 'FAILED_PRECONDITION',
    exit: 7,
    retry: false,
    title: 'Token of another history',
  },
  requestTooLarge: {
    http: 413,
    grpc: 'RESOURCE_EXHAUSTED',
    exit: 2,
    retry: false,
    title: 'Request too large',
  },
  unsupportedMediaType: {
    http: 415,
    grpc: 'INVALID_ARGUMENT',
    exit: 2,
    retry: false,
    title: 'Unsupported media type',
  },
  uriTooLong: { http: 414, grpc: 'RESOURCE_EXHAUSTED', exit: 2, retry: false, title: 'Request URI too long' },
  headersTooLarge: {
    http: 431,
    grpc: 'RESOURCE_EXHAUSTED',
    exit: 2,
    retry: false,
    title: 'Request headers too large',
  },
  rateLimited: { http: 429, grpc: 'RESOURCE_EXHAUSTED', exit: 6, retry: true, title: 'Too many requests' },
  slowConsumer: {
    http: 429,
    grpc: 'RESOURCE_EXHAUSTED',
    exit: 6,
    retry: true,
    title: 'Watcher does not keep up',
  },
  tooManyWatchers: {
    http: 429,
    grpc: 'RESOURCE_EXHAUSTED',
    exit: 6,
    retry: true,
    title: 'Too many watchers',
  },
  internal: { http: 500, grpc: 'INTERNAL', exit: 6, retry: true, title: 'Internal error' },
  unavailable: { http: 503, grpc: 'UNAVAILABLE', exit: 6, retry: true, title: 'Not available right now' },
  draining: { http: 503, grpc: 'UNAVAILABLE', exit: 6, retry: true, title: 'Server is stopping' },
  timeout: { http: 504, grpc: 'DEADLINE_EXCEEDED', exit: 6, retry: true, title: 'Timed out' },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** An error a person can act on: `message` says what is wrong and what to do; `details` go into the problem body. */
export class ShardError extends Error {
  readonly code: ErrorCode;
  readonly details: Record<string, unknown>;

  constructor(code: ErrorCode, message: string, details: Record<string, unknown> = {}, cause?: unknown) {
    super(message, { cause });
    this.name = 'ShardError';
    this.code = code;
    this.details = details;
  }
}
