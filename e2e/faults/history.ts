import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';

/** What of a shard the checks compare: who it is, how far it has come, and who owns it in which epoch. */
export interface ShardState {
  uid: string;
  generation: number;
  version: number;
  epoch: number;
  owner?: string;
  phase: string;
}

/** What a watcher asked for. `wire` watchers record the messages themselves, the others what the client package tells. */
export interface WatcherInfo {
  id: string;
  kind: 'client' | 'wire';
  transport: 'sse' | 'grpc';
  owners?: string[];
  phases?: string[];
  /** Substring of the shard id. */
  search?: string;
  allowCoalescing: boolean;
  /** The program is started again now and then, with nothing but its last token and what it folded. */
  restarts: boolean;
}

export interface HistoryHeader {
  kind: 'run';
  run: number;
  seed: number;
  faultClass: string;
  controlPlane: 'real' | 'embedded';
  namespace: string;
  watchers: WatcherInfo[];
  /** Why watchers may be told `reset` at any time: history was cut on purpose. What a restore explains is not among them. */
  mayReset: readonly string[];
  /** API servers may lose kube-apiserver's history and list: what was deleted meanwhile has no hops any more. */
  mayRelist: boolean;
  /** API servers may have to reconstruct a stretch of history: a token of its middle resumes before it, and what is told is repeated. */
  mayReconstruct: boolean;
}

export type HistoryEntry =
  /** The oracle: a shard was written at this position; without `state` it was deleted. */
  | { kind: 'truth'; position: string; key: string; state?: ShardState }
  /** The cluster was set back: the truth begins anew with what follows. */
  | { kind: 'restored'; position: string }
  /** After that, journal and API servers have all come to this lineage; without one they have not, in time. */
  | { kind: 'renewed'; lineage?: string }
  | ToldEntry
  /** Everything up to the position was told. */
  | { kind: 'mark'; watcher: string; type: 'SYNCED' | 'BOOKMARK'; position: string }
  /** Wire only: a snapshot begins. */
  | { kind: 'begin'; watcher: string; position: string; reason?: string }
  /** `lineage`: of the token that the watcher held. */
  | { kind: 'reset'; watcher: string; reason: string; lineage?: string }
  /** The watcher's program starts again from its last token. */
  | { kind: 'restarted'; watcher: string }
  /** Its stream was lost; `resumed`: the next one says something. */
  | { kind: 'lost'; watcher: string; why: string }
  | { kind: 'resumed'; watcher: string }
  /** Wire only: a stream is asked for, from the position of its token on. */
  | { kind: 'open'; watcher: string; position: string }
  /** A node learns that it owns the shard. */
  | { kind: 'grant'; node: string; key: string; epoch: number }
  /** A node writes to the storage stand-in. */
  | { kind: 'write'; node: string; key: string; epoch: number; accepted: boolean }
  /** `position`: when it begins, every API server knows what is up to there; when it ends, none knows what is beyond. */
  | { kind: 'fault'; what: string; phase: 'begin' | 'end'; position: string }
  | { kind: 'step'; what: string }
  /** Nothing happens any more: everybody should agree. */
  | { kind: 'quiet'; position: string };

export interface ToldEntry {
  kind: 'told';
  watcher: string;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  cause?: string;
  position: string;
  key: string;
  uid: string;
  /** What the shard is now; absent when it is gone. */
  state?: ShardState;
  /** Wire only: a row of a snapshot. */
  row?: boolean;
  coalesced?: number;
  /** `reconcile`: found out afterwards, by comparing states. */
  source?: string;
  /** Wire only: of a reconstructed stretch that a cut would begin again. */
  unsettled?: boolean;
}

export interface RunHistory {
  header: HistoryHeader;
  entries: HistoryEntry[];
}

/** A run that records more than this is out of hand. */
const MAX_ENTRIES = 300_000;

/** Takes down what happens, in the order in which the harness learns of it. */
export class Recorder {
  readonly history: RunHistory;
  #closed = false;

  constructor(header: HistoryHeader) {
    this.history = { header, entries: [] };
  }

  add(entry: HistoryEntry): void {
    if (this.#closed) return;
    if (this.history.entries.length >= MAX_ENTRIES)
      throw new Error(`run ${this.history.header.run} recorded more than ${MAX_ENTRIES} entries`);
    this.history.entries.push(entry);
  }

  /** Whatever comes later is not part of the run. */
  close(): void {
    this.#closed = true;
  }
}

/** JSON lines; a file may hold several runs, one after another. */
export function writeHistory(path: string, { header, entries }: RunHistory, append = false): void {
  const text = [header, ...entries].map((entry) => `${JSON.stringify(entry)}\n`).join('');
  if (append) appendFileSync(path, text);
  else writeFileSync(path, text);
}

/** Throws when the file is not one of `writeHistory`. */
export function readHistories(path: string): RunHistory[] {
  const runs: RunHistory[] = [];
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line === '') continue;
    const entry = JSON.parse(line) as HistoryHeader | HistoryEntry;
    if (entry.kind === 'run') runs.push({ header: entry, entries: [] });
    else if (runs.length === 0) throw new Error(`${path}: an entry comes before its run`);
    else runs.at(-1)!.entries.push(entry);
  }
  return runs;
}
