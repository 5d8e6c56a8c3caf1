import { at, METADATA, type Schema } from './schema.ts';
import { notImplemented } from './status.ts';
import type { Stored } from './store.ts';
import { columnCell } from './table.ts';

/** One printed column of a Table. */
interface Column {
  name: string;
  type: string;
  /** 0 is always shown, more only with `-o wide`. */
  priority?: number;
  cell: (object: Stored) => unknown;
}

/** What a CustomResourceDefinition cannot say of a built-in kind. */
interface Traits {
  /** Default: subdomain. */
  readonly nameRule?: 'subdomain' | 'label' | 'segment';
  readonly generation?: boolean;
  /** PUT creates what is missing. */
  readonly upsert?: boolean;
  /** PUT without a resourceVersion overwrites. */
  readonly unconditional?: boolean;
  /** DELETE answers with the object instead of a Status. */
  readonly returnsDeleted?: boolean;
  /** Fields that never change. */
  readonly immutable?: readonly string[];
  /** Fields that a write of the main resource leaves as they are. */
  readonly serverFields?: readonly string[];
}

/** One row of the closed table: a resource that this server stores. */
export interface Kind extends Traits {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly namespaced: boolean;
  /** Its part of the store: `plural.group`. */
  readonly bucket: string;
  readonly schema: Schema;
  readonly columns: readonly Column[];
  /** Field selector -> what it compares. */
  readonly selectable: Readonly<Record<string, (object: Stored) => unknown>>;
  /** From a CRD; answers a wrong type with 422, where built-in kinds cannot even be decoded (400). */
  readonly custom: boolean;
  /** Has the status subresource. */
  readonly status: boolean;
}

interface Names {
  plural: string;
  singular?: string;
  kind: string;
  shortNames?: string[];
  categories?: string[];
}

type ColumnDefinition = Omit<Column, 'cell'> & { jsonPath: string };

/** A row of bootstrap.yaml. */
export interface BuiltIn {
  group: string;
  scope: string;
  names: Names;
  traits?: Traits;
  selectable?: string[];
  columns?: ColumnDefinition[];
  schema: Schema;
}

interface Definition {
  group: string;
  scope: string;
  names: Names;
  versions: {
    name: string;
    served: boolean;
    schema?: { openAPIV3Schema?: Schema };
    subresources?: { status?: object };
    additionalPrinterColumns?: ColumnDefinition[];
    selectableFields?: { jsonPath: string }[];
  }[];
}

const AGE: ColumnDefinition = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

export function builtIn({ traits, ...given }: BuiltIn): Kind {
  return { ...common({ ...given, version: 'v1' }), ...traits, custom: false, status: false };
}

/** The kind that a CustomResourceDefinition adds. */
export function kindOf(definition: Stored): Kind {
  const { group, scope, names, versions } = definition.spec as Definition;
  const [served, another] = versions.filter((version) => version.served);
  if (!served || another)
    throw notImplemented('CustomResourceDefinitions with other than one served version');
  const status = served.subresources?.status !== undefined;
  const { name: version, additionalPrinterColumns: columns } = served;
  const schema = served.schema?.openAPIV3Schema ?? {};
  const selectable = served.selectableFields?.map(({ jsonPath }) => jsonPath.slice(1));
  const given = { group, version, scope, names, columns, selectable, schema };
  return { ...common(given), custom: true, generation: true, status, serverFields: status ? ['status'] : [] };
}

function common(given: BuiltIn & { version: string }): Omit<Kind, 'custom' | 'status'> {
  const { group, version, scope, names, columns = [AGE], selectable = [], schema } = given;
  const namespaced = scope === 'Namespaced';
  const paths = ['metadata.name', ...(namespaced ? ['metadata.namespace'] : []), ...selectable];
  const text: Schema = { type: 'string' };
  const properties = { ...schema.properties, apiVersion: text, kind: text, metadata: METADATA };
  return {
    group,
    version,
    namespaced,
    bucket: `${names.plural}.${group}`,
    singular: names.kind.toLowerCase(),
    ...names,
    schema: { type: 'object', ...schema, properties },
    columns: columns.map(({ jsonPath, ...column }) => ({
      ...column,
      cell: columnCell(column.type, jsonPath),
    })),
    selectable: Object.fromEntries(
      paths.map((path) => [path, (object: Stored) => at(object, path.split('.'))]),
    ),
  };
}

export function apiVersionOf({ group, version }: { group: string; version: string }): string {
  return group === '' ? version : `${group}/${version}`;
}
