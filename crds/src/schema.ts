import { z } from 'zod';

/*
 * The parts that the kinds share. Every string, list and map has a bound, because kube-apiserver refuses a CRD
 * whose CEL rules could cost too much, and because an unbounded field is an unbounded object in etcd.
 */

/** The API server's key for CEL rules in a structural schema. */
export const VALIDATIONS = 'x-kubernetes-validations';

/** One rule: `rule` (CEL) for kube-apiserver, `holds` the same in TypeScript where there is no CEL. */
export interface Rule<T = unknown> {
  rule: string;
  /** What a person reads: what is expected, and what to do. */
  message: string;
  /** CEL that makes a message with the object's own values; `message` is used where it fails. */
  messageExpression?: string;
  /** Where the error points, relative to the schema that carries the rule, e.g. `.spec.shardId`. */
  fieldPath?: string;
  /** Absent on transition rules: they need the old object, which only the API server has. */
  holds?: (self: T) => boolean;
}

/** The rules as the CRD carries them. */
export function celRules<T>(rules: readonly Rule<T>[]): object[] {
  return rules.map(({ holds: _holds, ...rule }) => rule);
}

/** The schema with its rules: checked by zod where they can be, and written into the CRD as CEL. */
export function ruled<S extends z.ZodType>(schema: S, rules: readonly Rule<z.output<S>>[]): S {
  let checked = schema;
  for (const { holds, message } of rules) {
    if (holds) checked = checked.refine(holds, message);
  }
  return checked.meta({ ...schema.meta(), [VALIDATIONS]: celRules(rules) });
}

type DeepRequired<T> = T extends object ? { [K in keyof T]-?: DeepRequired<T[K]> } : T;
type Assignable<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
type Mirrors<A, B> = [Assignable<A, B>, Assignable<DeepRequired<A>, DeepRequired<B>>] extends [true, true]
  ? true
  : false;

/**
 * Makes the compiler refuse a schema that does not say exactly what the interface `T` says.
 * Assignability alone would let a schema forget an optional field, hence the second look with all fields required.
 */
export function mirror<T>() {
  return <S extends z.ZodType>(
    schema: S & (Mirrors<z.output<S>, T> extends true ? unknown : 'schema and interface differ'),
  ): S => schema;
}

export interface Pattern {
  /** RE2 and JavaScript alike: no look-around, no back-references. Single quotes and backslashes are not allowed. */
  pattern: string;
  max: number;
  min?: number;
  message: string;
}

/** A string of a form. The CEL rule repeats the pattern only to say in words what the pattern says in symbols. */
export function formed(form: Pattern, description: string): z.ZodString {
  return z
    .string()
    .min(form.min ?? 1)
    .max(form.max)
    .regex(new RegExp(form.pattern), form.message)
    .meta({
      description,
      [VALIDATIONS]: [{ rule: `self.matches('${form.pattern}')`, message: form.message }],
    });
}

const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';

export const DNS_LABEL: Pattern = {
  pattern: `^${LABEL}$`,
  max: 63,
  message:
    'use a DNS label: lower-case letters, digits and "-", starting and ending with a letter or digit, at most 63',
};

const SUBDOMAIN = {
  pattern: `^${LABEL}([.]${LABEL})*$`,
  message:
    'use a DNS name: lower-case letters, digits, "-" and ".", each part starting and ending with a letter or digit',
};

/** Names of MeshNodes: 244 and not 253, so that the Lease `meshnode-<name>` still fits. */
export const NODE_NAME: Pattern = { ...SUBDOMAIN, max: 244 };

/** 128, so that `<shardSet>.<shardId>` stays a valid object name. */
export const SHARD_ID: Pattern = { ...SUBDOMAIN, max: 128 };

/** Regions and zones are label values, as in topology.kubernetes.io/zone. */
export const TOPOLOGY: Pattern = {
  pattern: '^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$',
  max: 63,
  message: 'use a label value: letters, digits, "-", "_" and ".", starting and ending with a letter or digit',
};

export const ENDPOINT: Pattern = {
  pattern: '^[a-z][-a-z0-9+.]*://[!-~]+$',
  max: 2048,
  message: 'use a URL with its scheme, such as https://worker-17.workers.payments.svc:8443',
};

/** An integer with both bounds; `int64` where it may pass 2^31. Never above 2^53 - 1, which every language reads exactly. */
export function integer(min: number, max: number, description: string): z.ZodInt {
  return z
    .int()
    .min(min)
    .max(max)
    .meta({ description, format: max > 2_147_483_647 ? 'int64' : 'int32' });
}

/** Free text; `maxLength` counts code points, so cutting by JavaScript's `length` is always short enough. */
export function text(max: number, description: string): z.ZodString {
  return z.string().min(1).max(max).meta({ description });
}

export function timestamp(description: string): z.ZodISODateTime {
  return z.iso.datetime({ offset: true }).meta({ description });
}

export const observedGeneration = integer(
  0,
  Number.MAX_SAFE_INTEGER,
  'The metadata.generation that this status reflects; smaller: the newest spec is not yet taken up.',
);

const condition = z.object({
  type: z
    .string()
    .min(1)
    .max(64)
    .regex(/^[A-Za-z]+$/)
    .meta({ description: 'Ready, Reconciling or Stalled (kstatus).' }),
  status: z.enum(['True', 'False', 'Unknown']),
  observedGeneration: observedGeneration.optional(),
  lastTransitionTime: timestamp('When status last changed.'),
  reason: z
    .string()
    .min(1)
    .max(256)
    .regex(/^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?$/)
    .meta({ description: 'One CamelCase word, for programs.' }),
  message: z.string().max(4096).meta({ description: 'For people: what is wrong and what to do.' }),
});

export const conditions = z
  .array(condition)
  .max(8)
  .meta({
    description: 'Ready, Reconciling and Stalled, as kubectl wait, Flux and Argo CD read them.',
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': ['type'],
  });

/** Decimal strings such as "1.05": Kubernetes APIs carry no floats. */
export function ratio(description: string): z.ZodString {
  return z
    .string()
    .min(1)
    .max(16)
    .regex(/^[0-9]+([.][0-9]+)?$/)
    .meta({ description });
}
