import type { Output } from './surroundings.ts';
import { type Column, Table } from './table.ts';

export const FORMATS = ['table', 'wide', 'json', 'yaml', 'name'] as const;
export type Format = (typeof FORMATS)[number];

export interface PrintOptions<Row> {
  format: Format;
  headers: boolean;
  columns: readonly Column<Row>[];
  /** `KIND/NAME`, as kubectl prints for `-o name`. */
  nameOf: (row: Row) => string;
  /** Said on stderr when there is nothing to show. */
  nothing: string;
}

/** Prints pages as they come. JSON and YAML are one document, `{items: […]}`, whatever the number of pages. */
export async function printPages<Row>(
  pages: AsyncIterable<readonly Row[]>,
  { format, headers, columns, nameOf, nothing }: PrintOptions<Row>,
  stdout: Output,
  stderr: Output,
): Promise<void> {
  if (format === 'json' || format === 'yaml') {
    const items: Row[] = [];
    for await (const page of pages) items.push(...page);
    await stdout.write(await documentOf({ items }, format));
    return;
  }
  const { color, width } = stdout;
  const table = new Table(columns, { headers, color, width: format === 'table' ? width : undefined });
  let count = 0;
  for await (const page of pages) {
    if (page.length === 0) continue;
    count += page.length;
    await stdout.write(format === 'name' ? page.map((row) => `${nameOf(row)}\n`).join('') : table.page(page));
  }
  if (count === 0) await stderr.write(`${nothing}\n`);
}

/** JSON with two spaces, or YAML; ends with a newline. */
export async function documentOf(value: unknown, format: 'json' | 'yaml'): Promise<string> {
  if (format === 'json') return `${JSON.stringify(value, null, 2)}\n`;
  const { stringify } = await import('yaml');
  // By way of JSON, so that members without a value are left out in both.
  return stringify(JSON.parse(JSON.stringify(value)), { lineWidth: 0 });
}
