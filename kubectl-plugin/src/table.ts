import { styleText } from 'node:util';
import { printable } from './printable.ts';

export type Style = Parameters<typeof styleText>[0];

export interface Column<Row> {
  header: string;
  /** Characters that it has at least: where rows come one by one, so that most of them fit. */
  least?: number;
  /** Never empty, so that `awk` counts right. */
  cell(row: Row): string;
  style?(row: Row): Style | undefined;
  /** Left out when the terminal is too narrow, the largest number first; absent: never. */
  spare?: number;
}

export interface TableOptions {
  headers: boolean;
  color: boolean;
  /** Columns of the terminal; undefined: no limit, nothing is left out. */
  width?: number;
}

const GAP = '   ';

/** Aligned columns like kubectl's, page by page: a later page may widen a column, never narrow it. */
export class Table<Row> {
  #columns: readonly Column<Row>[];
  readonly #options: TableOptions;
  #widths: number[] | undefined;

  constructor(columns: readonly Column<Row>[], options: TableOptions) {
    this.#columns = columns;
    this.#options = options;
  }

  /** The lines of a page, each with its newline; the first page's begin with the header. */
  page(rows: readonly Row[]): string {
    const first = this.#widths === undefined;
    if (first) this.#fit(rows);
    const cells = rows.map((row) => this.#columns.map((column) => printable(column.cell(row))));
    if (first && this.#options.headers) cells.unshift(this.#columns.map(({ header }) => header));
    const widths = widthsOf(cells, this.#widths ?? this.#columns.map(({ least = 0 }) => least));
    this.#widths = widths;
    const offset = cells.length - rows.length;
    return cells.map((line, at) => `${this.#line(line, widths, rows[at - offset])}\n`).join('');
  }

  /** Decided once, by the first page, so that the columns stay the same all the way down. */
  #fit(rows: readonly Row[]): void {
    const { width, headers } = this.#options;
    if (width === undefined) return;
    const measured = this.#columns.map((column) => ({
      column,
      width: Math.max(
        headers ? column.header.length : 0,
        ...rows.map((row) => printable(column.cell(row)).length),
      ),
    }));
    const total = () =>
      measured.reduce((sum, { width: own }) => sum + own, 0) + GAP.length * (measured.length - 1);
    while (total() > width) {
      const spare = measured.reduce((best, { column }) => Math.max(best, column.spare ?? 0), 0);
      if (spare === 0) break;
      measured.splice(
        measured.findIndex(({ column }) => column.spare === spare),
        1,
      );
    }
    this.#columns = measured.map(({ column }) => column);
  }

  #line(cells: readonly string[], widths: readonly number[], row: Row | undefined): string {
    return cells
      .map((cell, at) => {
        const last = at === cells.length - 1;
        const padding = last ? '' : ' '.repeat((widths[at] ?? 0) - cell.length) + GAP;
        const style = row !== undefined && this.#options.color ? this.#columns[at]?.style?.(row) : undefined;
        return (style === undefined ? cell : styleText(style, cell, { validateStream: false })) + padding;
      })
      .join('');
  }
}

function widthsOf(cells: readonly (readonly string[])[], atLeast: readonly number[]): number[] {
  return atLeast.map((width, at) =>
    cells.reduce((most, line) => Math.max(most, line[at]?.length ?? 0), width),
  );
}
