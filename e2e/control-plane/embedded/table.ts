import type { Kind } from './kinds.ts';
import { at } from './schema.ts';
import type { Stored } from './store.ts';

/** meta.k8s.io/v1 Table: what `kubectl get` asks for, so that the server decides on columns. `include`: None, Object, or metadata only. */
export function tableOf(
  kind: Kind,
  objects: readonly Stored[],
  metadata: object,
  include: string | null,
  withColumns = true,
): object {
  const definitions = kind.columns.map(({ name, type, priority = 0 }) => ({
    name,
    type,
    format: '',
    description: '',
    priority,
  }));
  const name = { name: 'Name', type: 'string', format: 'name', description: '', priority: 0 };
  const common = { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1' };
  const rows = objects.map((object) => ({
    cells: [object.metadata.name, ...kind.columns.map((column) => column.cell(object))],
    object:
      include === 'None' ? null : include === 'Object' ? object : { ...common, metadata: object.metadata },
  }));
  const columnDefinitions = withColumns ? [name, ...definitions] : null;
  return { kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata, columnDefinitions, rows };
}

/** The first value at a JSONPath of `.field`, `[index]` and `[?(@.field=="value")]` steps; null where there is none. */
export function columnCell(type: string, jsonPath: string): (object: Stored) => unknown {
  const steps = jsonPath.match(/\.(?:[^.[\\]|\\.)+|\[\?\(@\.[^\]]+\)\]|\[\d+\]/g) ?? [];
  return (object) => {
    let value: unknown = object;
    for (const step of steps) {
      const [, field, wanted] = /^\[\?\(@\.([^=\s]+)\s*==\s*["']([^"']*)["']\)\]$/.exec(step) ?? [];
      if (!field) value = at(value, [step.replace(/^\.|^\[|\]$/g, '').replaceAll('\\', '')]);
      else
        value = Array.isArray(value)
          ? value.find((item) => at(item, field.split('.')) === wanted)
          : undefined;
    }
    if (value === undefined || value === null) return null;
    if (type === 'date') return age(Date.parse(String(value)));
    return typeof value === 'object' ? JSON.stringify(value) : value;
  };
}

/** As kubectl prints it: `98s`, `3m57s`, `12m`, `5h12m`, `30h`, `6d3h`, `40d`. */
function age(since: number): string {
  const seconds = Math.max(0, Math.floor((Date.now() - since) / 1000));
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit)) as [
    number,
    number,
    number,
  ];
  const two = (big: string, rest: number, unit: string) => (rest === 0 ? big : `${big}${rest}${unit}`);
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return two(`${minutes}m`, seconds % 60, 's');
  if (minutes < 180) return `${minutes}m`;
  if (hours < 8) return two(`${hours}h`, minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  return days < 8 ? two(`${days}d`, hours % 24, 'h') : `${days}d`;
}
