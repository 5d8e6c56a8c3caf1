import { styleText } from 'node:util';
import type { Format } from './format.ts';
import { printable } from './printable.ts';
import type { Output } from './surroundings.ts';
import { type Column, type Style, Table } from './table.ts';

/** How text is to look; the same model and the same look give the same text. */
export interface Look {
  color: boolean;
  /** Columns of the terminal; undefined: no limit. */
  width?: number;
  headers: boolean;
  wide: boolean;
}

/** `wide`, and whatever goes to a file or a pipe, is never cut. */
export function lookOf(format: Format, { headers }: { headers: boolean }, stdout: Output): Look {
  const wide = format === 'wide';
  return { color: stdout.color, width: wide ? undefined : stdout.width, headers, wide };
}

export interface PrintOptions<Row> {
  format: Format;
  headers: boolean;
  columns: readonly Column<Row>[];
  /** `KIND/NAME`, as kubectl prints for `-o name`. */
  nameOf: (row: Row) => string;
  /** Said on stderr when there is nothing to show. */
  nothing: string;
  /** Further members of a document, known once all pages are. */
  more?: () => object;
}

/** Prints pages as they come. JSON and YAML are one document, `{items: […]}`, whatever the number of pages. */
export async function printPages<Row>(
  pages: AsyncIterable<readonly Row[]>,
  { format, headers, columns, nameOf, nothing, more }: PrintOptions<Row>,
  stdout: Output,
  stderr: Output,
): Promise<void> {
  if (format === 'json' || format === 'yaml') {
    const items: Row[] = [];
    for await (const page of pages) items.push(...page);
    await stdout.write(await documentOf({ items, ...more?.() }, format));
    return;
  }
  const table = new Table(columns, lookOf(format, { headers }, stdout));
  let count = 0;
  for await (const page of pages) {
    if (page.length === 0) continue;
    count += page.length;
    await stdout.write(format === 'name' ? page.map((row) => `${nameOf(row)}\n`).join('') : table.page(page));
  }
  if (count === 0) await stderr.write(`${nothing}\n`);
}

/** One answer that is no list: its document, its names, or its text. */
export async function printAnswer<Model>(
  model: Model,
  o: { format: Format; names?: (model: Model) => string[]; text: (model: Model, look: Look) => string },
  flags: { headers: boolean },
  stdout: Output,
): Promise<void> {
  const { format, names, text } = o;
  if (format === 'json' || format === 'yaml') await stdout.write(await documentOf(model, format));
  else if (format === 'name' && names)
    await stdout.write(
      names(model)
        .map((name) => `${printable(name)}\n`)
        .join(''),
    );
  else await stdout.write(text(plain(model), lookOf(format, flags, stdout)));
}

/** The same model, every text in it printable: what texts are made of is not asked for it again. */
function plain<T>(value: T): T {
  if (typeof value === 'string') return printable(value) as T;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(plain) as T;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, plain(member)])) as T;
}

/** JSON with two spaces, or YAML; ends with a newline. */
export async function documentOf(value: unknown, format: 'json' | 'yaml'): Promise<string> {
  if (format === 'json') return `${JSON.stringify(value, null, 2)}\n`;
  const { stringify } = await import('yaml');
  // By way of JSON, so that members without a value are left out in both.
  return stringify(JSON.parse(JSON.stringify(value)), { lineWidth: 0 });
}

/** A table as one text; empty when there are no rows. */
export function tableText<Row>(rows: readonly Row[], columns: readonly Column<Row>[], look: Look): string {
  return rows.length === 0 ? '' : new Table(columns, look).page(rows);
}

/** `KEY   value` lines, aligned; those without a value are left out. */
export function fieldsText(
  fields: readonly (readonly [key: string, value: string | undefined, style?: Style])[],
  look: Look,
): string {
  const given = fields.filter(([, value]) => value !== undefined);
  const width = given.reduce((most, [key]) => Math.max(most, key.length), 0);
  return given
    .map(([key, value = '', style]) => `${key.padEnd(width)}   ${styled(style, value, look)}\n`)
    .join('');
}

export function styled(style: Style | undefined, text: string, { color }: Pick<Look, 'color'>): string {
  return style === undefined || !color ? text : styleText(style, text, { validateStream: false });
}

/** `1 shard`, `2 shards`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** `12.5 %`, of a share such as 0.125. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(share > 0 && share < 0.01 ? 2 : 1).replace(/\.0$/, '')} %`;
}
