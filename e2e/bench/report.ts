import { cpus, totalmem } from 'node:os';

/** What every benchmark hands back; the last line of `npm run bench -- NAME --json` on stdout. */
interface Report {
  bench: string;
  /** Every figure is within what the issues ask for. */
  ok: boolean;
  machine: Machine;
  /** By the keys that the issues name; always numbers. */
  figures: Record<string, number>;
  rows: Row[];
}

/** One subject in one case. `unit` says what p50, p95, p99, min and max count; further columns depend on the case. */
export interface Row {
  /** `meshkit`, or the peer it is compared with. */
  subject: string;
  case: string;
  unit: string;
  /** Measurements. */
  n: number;
  p50: number;
  p95: number;
  p99: number;
  min: number;
  max: number;
  [column: string]: number | string;
}

interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  platform: string;
  node: string;
}

/** A benchmark. `progress` takes a line for people; measurements are taken as given, never repeated to look better. */
export type Benchmark = (options: {
  seed: number;
  /** Fewer and shorter rounds: for development, its figures mean little. */
  quick: boolean;
  progress: (line: string) => void;
}) => Promise<Report>;

export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform}-${process.arch}`,
    node: process.version,
  };
}

/** Median, tails and spread of at least one measurement (nearest rank). */
export function distribution(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b);
  const rank = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  return {
    n: sorted.length,
    p50: round(rank(0.5)),
    p95: round(rank(0.95)),
    p99: round(rank(0.99)),
    min: round(rank(0)),
    max: round(rank(1)),
  };
}

/** Of an odd or even number of values, at least one. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] as number) + (sorted[Math.floor(middle)] as number)) / 2;
}

/** Smallest and largest of the rounds, for people. */
export function spread(values: readonly number[]): string {
  return `${round(Math.min(...values))}-${round(Math.max(...values))}`;
}

/** To four significant digits behind a whole part that is kept: figures are for reading, not for hashing. */
export function round(value: number): number {
  return Number.isInteger(value) ? value : Number(value.toFixed(4));
}

/** Rows of one case under one heading, a line each, columns aligned. */
export function table(rows: readonly Row[]): string {
  const cases = [...new Set(rows.map((row) => row.case))];
  return cases
    .map((name) =>
      caseTable(
        name,
        rows.filter((row) => row.case === name),
      ),
    )
    .join('\n');
}

function caseTable(name: string, rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter(
    (column) => column !== 'case' && column !== 'unit',
  );
  const lines = [columns, ...rows.map((row) => columns.map((column) => String(row[column] ?? '')))];
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  const text = lines.map((line) =>
    line
      .map((cell, at) => pad(cell, widths[at] ?? 0, at))
      .join('  ')
      .trimEnd(),
  );
  return [`${name} (${rows[0]?.unit ?? ''})`, ...text.map((line) => `  ${line}`), ''].join('\n');
}

/** Names to the left, numbers to the right. */
function pad(cell: string, width: number, column: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}
