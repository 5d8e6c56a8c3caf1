import { isDeepStrictEqual } from 'node:util';
import { type Kind, kindOf } from './kinds.ts';
import { violations } from './schema.ts';
import { type Cause, invalid, invalidValue } from './status.ts';
import type { Stored } from './store.ts';

const ENDS = 'and must start and end with an alphanumeric character';
const NAMES = {
  subdomain: {
    pattern: /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
    why: `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', ${ENDS}`,
  },
  label: {
    pattern: /^(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    why: `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', ${ENDS}`,
  },
  segment: { pattern: /^(?!\.{1,2}$)[^/%]+$/, why: `may not be '.' or '..', nor contain '/' or '%'` },
};
const LABEL_KEY = /^([^/]+\/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$/;
const LABEL_RULE = `a valid label must consist of alphanumeric characters, '-', '_' or '.', ${ENDS}`;

/** Throws 422 with everything that is wrong with an object that is about to be stored. */
export function validate(kind: Kind, next: Stored, previous: Stored | undefined, subresource?: string): void {
  const found = inMetadata(next, previous, NAMES[kind.nameRule ?? 'subdomain']);
  if (subresource === 'status') {
    // The real server looks at nothing but the status here, and words its messages from there.
    const inStatus = violations(kind.schema.properties?.status ?? {}, next.status ?? {});
    found.push(...inStatus.map((cause) => ({ ...cause, field: `status.${cause.field}` })));
  } else {
    found.push(...violations(kind.schema, next));
  }
  for (const field of kind.immutable ?? []) {
    if (!previous || isDeepStrictEqual(next[field], previous[field])) continue;
    found.push(invalidValue(field, next[field], 'field is immutable'));
  }
  if (kind.kind === 'CustomResourceDefinition') kindOf(next);
  if (found.length > 0) throw invalid(kind.group, kind.kind, next.metadata.name, found);
}

function inMetadata(
  { metadata }: Stored,
  previous: Stored | undefined,
  rule: { pattern: RegExp; why: string },
): Cause[] {
  const { name, labels = {}, ownerReferences = [] } = metadata;
  const found: Cause[] = [];
  const required = (field: string, why: string) =>
    found.push({ reason: 'FieldValueRequired', message: `Required value: ${why}`, field });
  if (!name) required('metadata.name', 'name or generateName is required');
  else if (!rule.pattern.test(name)) found.push(invalidValue('metadata.name', name, rule.why));
  for (const [key, value] of Object.entries(labels)) {
    if (!LABEL_KEY.test(key)) found.push(invalidValue('metadata.labels', key, LABEL_RULE));
    if (!LABEL_VALUE.test(value)) found.push(invalidValue('metadata.labels', value, LABEL_RULE));
  }
  for (const [index, owner] of ownerReferences.entries()) {
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const) {
      if (!owner[field]) required(`metadata.ownerReferences[${index}].${field}`, 'must not be empty');
    }
  }
  if (ownerReferences.filter(({ controller }) => controller).length > 1) {
    const why = 'Only one reference can have Controller set to true';
    found.push(invalidValue('metadata.ownerReferences', ownerReferences, why));
  }
  if (previous && metadata.uid !== previous.metadata.uid) {
    found.push(invalidValue('metadata.uid', metadata.uid, 'field is immutable'));
  }
  return found;
}

/** Kubernetes timestamps are whole seconds. */
export function timestamp(milliseconds = Date.now()): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
