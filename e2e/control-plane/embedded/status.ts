/** metav1.Status of a failure, in the words of kube-apiserver. */
export interface Status {
  kind: 'Status';
  apiVersion: 'v1';
  metadata: { continue?: string };
  status: 'Failure';
  message: string;
  reason?: string;
  details?: { name?: string; group?: string; kind?: string; causes?: Cause[]; retryAfterSeconds?: number };
  code: number;
}

export interface Cause {
  reason?: string;
  /** What follows the field's path in the Status' message. */
  message: string;
  field?: string;
}

/** Thrown anywhere below the request handler; its body is the answer. */
export class StatusError extends Error {
  readonly body: Status;

  constructor(code: number, reason: string | undefined, message: string, details?: Status['details']) {
    super(message);
    this.name = 'StatusError';
    this.body = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      details,
      code,
    };
  }
}

interface Named {
  group: string;
  plural: string;
}

/** `shardsets.meshkit.omnirelay.io "x"`, as messages begin. */
function subject({ group, plural }: Named, name?: string): string {
  return (group === '' ? plural : `${plural}.${group}`) + (name ? ` ${quote(name)}` : '');
}

function details({ group, plural }: Named, name: string, causes?: Cause[]): Status['details'] {
  return { name: name || undefined, group: group || undefined, kind: plural || undefined, causes };
}

export function notFound(kind: Named, name: string): StatusError {
  return new StatusError(404, 'NotFound', `${subject(kind, name)} not found`, details(kind, name));
}

export function alreadyExists(kind: Named, name: string): StatusError {
  return new StatusError(409, 'AlreadyExists', `${subject(kind, name)} already exists`, details(kind, name));
}

export function conflict(kind: Named, name: string, why: string): StatusError {
  const message = `Operation cannot be fulfilled on ${subject(kind, name)}: ${why}`;
  return new StatusError(409, 'Conflict', message, details(kind, name));
}

export function forbidden(kind: Named, name: string, why: string, causes?: Cause[]): StatusError {
  return new StatusError(
    403,
    'Forbidden',
    `${subject(kind, name)} is forbidden: ${why}`,
    details(kind, name, causes),
  );
}

/** `kind` is a Kind's name, as the real server has it in most of these. */
export function invalid(group: string, kind: string, name: string, causes: Cause[]): StatusError {
  const texts = [...new Set(causes.map((cause) => `${cause.field}: ${cause.message}`))];
  const why = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  const named = { group, plural: kind };
  const message = `${subject(named)} ${quote(name)} is invalid: ${why}`;
  return new StatusError(422, 'Invalid', message, details(named, name, causes));
}

export function invalidValue(field: string, value: unknown, why: string): Cause {
  return { reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(value)}: ${why}`, field };
}

export function unsupportedValue(field: string, value: unknown, supported: readonly unknown[]): Cause {
  const listed = supported
    .map((one) => quote(typeof one === 'string' ? one : JSON.stringify(one)))
    .join(', ');
  const message = `Unsupported value: ${JSON.stringify(value)}: supported values: ${listed}`;
  return { reason: 'FieldValueNotSupported', message, field };
}

export function badRequest(message: string): StatusError {
  return new StatusError(400, 'BadRequest', message);
}

export function expired(message: string): StatusError {
  return new StatusError(410, 'Expired', message);
}

/** What this server leaves to the real one. */
export function notImplemented(what: string): StatusError {
  const message = `the embedded control plane does not do ${what}; use --control-plane real`;
  return new StatusError(501, 'NotImplemented', message);
}

/** Go's %q, as far as messages need it. */
export function quote(text: string): string {
  return JSON.stringify(text);
}
