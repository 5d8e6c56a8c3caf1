import type { Kind } from './kinds.ts';
import { badRequest, quote } from './status.ts';
import type { Stored } from './store.ts';

export type Matcher = (object: Stored) => boolean;

/** `a=b,c!=d,e in (x,y),f notin (z),g,!h`; undefined when nothing is asked. */
export function labelMatcher(selector: string): Matcher | undefined {
  const parts = selector.split(/,(?![^(]*\))/).filter((part) => part.trim() !== '');
  const requirements = parts.map((part) => requirement(part.trim()));
  if (requirements.length === 0) return undefined;
  return ({ metadata: { labels = {} } }) => requirements.every((holds) => holds(labels));
}

function requirement(part: string): (labels: Record<string, string>) => boolean {
  const [, key = '', operator, list = ''] = /^(\S+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(part) ?? [];
  if (operator) {
    const values = new Set(list.split(',').map((value) => value.trim()));
    return (labels) => values.has(labels[key] ?? '\0') === (operator === 'in');
  }
  const [, name = '', sign, value] = /^([^\s=!]+)\s*(==?|!=)\s*([A-Za-z0-9._-]*)$/.exec(part) ?? [];
  if (sign) return (labels) => (labels[name] === value) === (sign !== '!=');
  const [, not, present] = /^(!?)\s*([A-Za-z0-9][A-Za-z0-9./_-]*)$/.exec(part) ?? [];
  if (!present) throw badRequest(`unable to parse requirement: ${quote(part)}`);
  return (labels) => present in labels === (not === '');
}

/** `metadata.name=a,status.owner!=b` over what the kind makes selectable; undefined when nothing is asked. */
export function fieldMatcher(kind: Kind, selector: string): Matcher | undefined {
  const terms = selector
    .split(',')
    .filter((part) => part !== '')
    .map((part) => {
      const [, field, sign, value = ''] = /^([^=!]+)(==?|!=)(.*)$/.exec(part) ?? [];
      if (!field) throw badRequest(`invalid selector: '${selector}'; can't understand '${part}'`);
      const select = kind.selectable[field];
      if (!select) throw badRequest(`field label not supported: ${field}`);
      return (object: Stored) => (String(select(object) ?? '') === value) === (sign !== '!=');
    });
  return terms.length === 0 ? undefined : (object) => terms.every((holds) => holds(object));
}

/** The one object that a field selector allows; authorization treats such a list like a get. */
export function selectedName(selector: string): string | undefined {
  return /(?:^|,)metadata\.name==?([^,]+)/.exec(selector)?.[1];
}
