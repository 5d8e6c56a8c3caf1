export interface Cause {
  reason?: string;
  /** What follows the field's path in the Status' message. */
  message: string;
  field?: string;
}

type Details = { name?: string; group?: string; kind?: string; causes?: Cause[] };
type Named = { group: string; plural: string };

/** Thrown anywhere below the request handler; its body, a metav1.Status in the words of kube-apiserver, is the answer. */
export class StatusError extends Error {
  readonly code: number;
  readonly body: object;

  constructor(code: number, reason: string | undefined, message: string, details?: Details) {
    super(message);
    this.name = 'StatusError';
    this.code = code;
    const head = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure' };
    this.body = { ...head, message, reason, details, code };
  }
}

const CODES = { Forbidden: 403, NotFound: 404, AlreadyExists: 409, Conflict: 409, Invalid: 422 };

/** `%s` in the message stands for `shardsets.meshkit.omnirelay.io "x"`. */
export function refused(
  reason: keyof typeof CODES,
  { group, plural }: Named,
  name: string,
  message: string,
  causes?: Cause[],
): StatusError {
  const subject = (group === '' ? plural : `${plural}.${group}`) + (name ? ` ${quote(name)}` : '');
  const details = { name: name || undefined, group: group || undefined, kind: plural || undefined, causes };
  return new StatusError(
    CODES[reason],
    reason,
    message.replace('%s', () => subject),
    details,
  );
}

/** `plural` is a Kind's name here, as the real server has it in most of these. */
export function invalid(kind: Named, name: string, causes: Cause[]): StatusError {
  const texts = [...new Set(causes.map((cause) => `${cause.field}: ${cause.message}`))];
  const why = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  return refused('Invalid', kind, name, `%s is invalid: ${why}`, causes);
}

/** One cause of an `invalid`; the short forms of `reason` are those of `field.ErrorType`. */
export function cause(reason: string, field: string, message: string): Cause {
  return { reason: `FieldValue${reason}`, message, field };
}

export function invalidValue(field: string, value: unknown, why: string): Cause {
  return cause('Invalid', field, `Invalid value: ${JSON.stringify(value)}: ${why}`);
}

export function unsupportedValue(field: string, value: unknown, supported: readonly unknown[]): Cause {
  const listed = supported.map((one) => quote(typeof one === 'string' ? one : JSON.stringify(one)));
  const message = `Unsupported value: ${JSON.stringify(value)}: supported values: ${listed.join(', ')}`;
  return cause('NotSupported', field, message);
}

export function badRequest(message: string): StatusError {
  return new StatusError(400, 'BadRequest', message);
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
